"""A look at the embeddings while training, for collapse, and at the learning rate before it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor

from clop_det.data.images import Images
from clop_det.errors import UserError
from clop_det.losses.base import Loss
from clop_det.losses.batch import gather_views
from clop_det.pretraining.optimizers import scaled_learning_rate
from clop_det.probes.measures.embeddings import embedding_figures

_log = logging.getLogger(__name__)
_LOOKED_AT = 64  # images, for `flat_note`
RANKME, MEAN_NORM = "embedding_rankme", "embedding_mean_norm"


def batch_figures(embeddings: Tensor) -> dict[str, float]:
    """`embedding_figures` of the global batch, the same on every rank; all ranks call it.

    Args:
        embeddings: (V n, d) of this rank; as many on every rank.
    """
    world_size = comm.get_world_size()
    if world_size > 1:
        embeddings = gather_views(embeddings, (len(embeddings) // 2,) * world_size)
    return embedding_figures(embeddings)


class CollapseWatch(HookBase):
    """Warns when the figures of a batch pass a threshold of COLLAPSE.*, and says when a run should end.

    Must stand before the writer and the checkpointer: its count is part of a checkpoint.
    """

    def __init__(self, cfg: CfgNode, images: Images | None = None) -> None:
        """`images`: of the training, for what the warning says of flat ones."""
        self._images = images
        self._settings, self._from = cfg.COLLAPSE, cfg.SOLVER.WARMUP_ITERS
        self.count = 0

    def after_step(self) -> None:
        latest, iteration = self.trainer.storage.latest(), self.trainer.iter
        rank, at = latest.get(RANKME, (0.0, -1))
        if at != iteration or iteration < self._from:
            return
        reasons = self._reasons(rank, latest[MEAN_NORM][0])
        if reasons and not self.count:
            _log.warning(
                "collapse begins at iteration %d: %s. Lower SOLVER.BASE_LR, raise the temperature or the weight of the"
                " prototypes; see docs/collapse.md.%s",
                *(iteration, "; ".join(reasons), flat_note(self._images)),
            )
        elif self.count and not reasons:
            _log.info("iteration %d: the embeddings are back within COLLAPSE's thresholds", iteration)
        self.count = self.count + 1 if reasons else 0

    def stop_if_collapsed(self, save: Callable[[], None]) -> None:
        """After everything else of a step: with COLLAPSE.STOP, save and end a run that stays collapsed.

        Raises:
            UserError: the run has collapsed.
        """
        if not self._settings.STOP or self.count < self._settings.PATIENCE:
            return
        save()
        comm.synchronize()
        raise UserError(
            f"the embeddings have collapsed: past COLLAPSE's thresholds {self.count} times in a row up to iteration "
            f"{self.trainer.iter}; the state is saved. Lower SOLVER.BASE_LR, or set COLLAPSE.STOP False in a new run."
        )

    def state_dict(self) -> dict[str, Any]:
        """How often in a row a threshold was passed."""
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.count = state["count"]

    def _reasons(self, rank: float, norm: float) -> list[str]:
        least, most = self._settings.MIN_RANKME, self._settings.MAX_MEAN_NORM
        low = [f"RankMe of the embeddings {rank:.3g} < COLLAPSE.MIN_RANKME {least:g}"] if rank < least else []
        # The norm of a mean of unit rows may round to just above 1, which must not pass a check that is off.
        past = norm > most and most < 1
        high = [f"norm of the mean embedding {norm:.3g} > COLLAPSE.MAX_MEAN_NORM {most:g}"] if past else []
        return low + high


def flat_note(images: Images | None) -> str:
    """A sentence for a warning if some of the images are one flat colour: then the data may be its cause; else ""."""
    if images is None or not len(images):
        return ""
    looked = images[torch.linspace(0, len(images) - 1, min(_LOOKED_AT, len(images))).long()].flatten(2)
    flat = int((looked.amax(2) == looked.amin(2)).all(1).sum())
    return (
        f" {flat} of {len(looked)} training images looked at are one flat colour: look at the files first, which may be"
        " empty or read wrongly."
        if flat
        else ""
    )


def report_critical_rate(cfg: CfgNode, loss: Loss, images: Images | None = None) -> None:
    """Log the learning rate beside the critical one that the loss names; a warning if it is past that.

    The critical rate (docs/collapse.md) is one of free embeddings under plain gradient descent. Between them and a
    learning rate of weights stands the encoder, so below it is no promise; past it is a reason to look.
    """
    embeddings = 2 * cfg.SOLVER.IMS_PER_BATCH
    critical, rate = loss.critical_learning_rate(embeddings), scaled_learning_rate(cfg)
    if critical is None:
        return
    _log.log(
        logging.WARNING if rate > critical else logging.INFO,
        "learning rate %g is %.2g times the critical one, %g (that of the loss's repulsion, for %d embeddings)%s",
        *(rate, rate / critical, critical, embeddings),
        f": repulsion alone may collapse the embeddings; lower SOLVER.BASE_LR.{flat_note(images)}"
        if rate > critical
        else "",
    )
