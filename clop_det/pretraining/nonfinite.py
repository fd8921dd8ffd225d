"""Steps whose loss or gradient is not finite: left out, a bounded number of times, or the end of the run with a dump.

All ranks decide alike without asking each other: they share the embeddings and the loss of the global batch and, after
averaging, the gradient.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor

from clop_det.checkpoints.integrity import save_torch
from clop_det.checkpoints.saving import plain
from clop_det.data.batches import batch_indices
from clop_det.engine.seeding import derive_seed
from clop_det.errors import UserError
from clop_det.files import write_json
from clop_det.losses.batch import LaterChecks
from clop_det.methods import Method
from clop_det.pretraining.data import PretrainData

_log = logging.getLogger(__name__)


class NonFiniteGuard:
    """Decides about a step that must not be taken.

    Attributes:
        skipped: steps left out so far; part of a checkpoint.
    """

    def __init__(self, cfg: CfgNode, data: PretrainData, method: Method) -> None:
        self._cfg, self._data, self._method = cfg, data, method
        self._limit = cfg.SOLVER.MAX_SKIPPED
        self._buffers: list[Tensor] = []
        self.skipped = 0

    def remember(self) -> None:
        """Before a step: keep what its forward pass may spoil (BatchNorm's running statistics, a queue)."""
        if self._limit or self._cfg.SOLVER.AMP.ENABLED:
            self._buffers = [buffer.clone() for buffer in self._method.buffers()]

    def handle(self, iteration: int, fault: str, optimizer: torch.optim.Optimizer) -> None:
        """Leave the step out, or stop.

        Raises:
            UserError: more than SOLVER.MAX_SKIPPED steps; names batch and dump.
        """
        self._restore_buffers()
        self.skipped += 1
        indices = self._batch(iteration)
        stops = self.skipped > self._limit
        path = Path(self._cfg.OUTPUT_DIR) / f"nonfinite_{iteration:07d}.json"
        if comm.is_main_process():
            self._write(path, iteration, fault, indices, optimizer if stops else None)
        comm.synchronize()
        if stops:
            raise UserError(
                f"iteration {iteration} is not finite ({fault}); images {_shortened(indices)}; {path} names them, "
                f"{path.with_suffix('.pt').name} beside it holds the weights. Lower SOLVER.BASE_LR, set "
                f"SOLVER.PRECISION fp32, or allow more skipped steps (SOLVER.MAX_SKIPPED is {self._limit})."
            )
        get_event_storage().put_scalar("skipped_steps", self.skipped, smoothing_hint=False)
        _log.warning(
            "iteration %d is left out (%d of at most %d): %s; images %s, see %s",
            *(iteration, self.skipped, self._limit, fault, _shortened(indices), path),
        )

    def leave_out(self, iteration: int, scale: float) -> None:
        """Leave out an fp16 step whose gradients overflow; it does not count as one of MAX_SKIPPED."""
        self._restore_buffers()
        _log.info(
            "iteration %d is left out: its gradients overflow fp16; the loss is scaled by %g now", iteration, scale
        )

    def _restore_buffers(self) -> None:
        for buffer, kept in zip(self._method.buffers(), self._buffers, strict=False):
            buffer.copy_(kept)

    def _batch(self, iteration: int) -> list[int]:
        """Indices of the global batch's images, as `BatchSource` draws them."""
        cfg = self._cfg
        order = derive_seed(cfg.SEED, "order")
        indices: list[int] = batch_indices(len(self._data.train), cfg.SOLVER.IMS_PER_BATCH, iteration, order).tolist()
        return indices

    def _write(
        self, path: Path, iteration: int, fault: str, indices: list[int], optimizer: torch.optim.Optimizer | None
    ) -> None:
        """The batch in words; with an optimiser also the state before the step: with the config it is the step."""
        labels = self._data.visible_labels[indices].tolist()
        files = [self._data.listed.files[index] for index in indices]
        content: dict[str, Any] = {"iteration": iteration, "fault": fault, "seed": self._cfg.SEED}
        write_json(path, {**content, "indices": indices, "labels": labels, "files": files})
        if optimizer is not None:
            state = {"model": self._method.state_dict(), "optimizer": optimizer.state_dict()}
            save_torch(plain({**content, **state, "config": self._cfg.dump()}), path.with_suffix(".pt"))


@dataclass(frozen=True)
class Fault:
    """Why a step is not finite.

    Attributes:
        text: for a person.
        gradient_alone: whether embeddings and loss are finite.
    """

    text: str
    gradient_alone: bool

    def __str__(self) -> str:
        return self.text


def why_not_finite(parts: dict[str, Tensor], gradient_norm: Tensor, checks: LaterChecks) -> Fault | None:
    """What is not finite among the embeddings, the loss's parts and the gradient's norm, or None.

    This is the one place where a step waits for the device.
    """
    named = {**{f"loss_{name}": part.detach() for name, part in parts.items()}, "gradient_norm": gradient_norm}
    finite = [torch.isfinite(value.reshape(())) for value in named.values()]
    if bool(torch.stack([*finite, *checks.finite]).all()):
        return None
    complaint = checks.complaint()
    text = complaint or ", ".join(f"{name} {float(value):g}" for name, value in named.items())
    return Fault(text, complaint is None and all(bool(flag) for flag in finite[:-1]))


def _shortened(indices: list[int]) -> str:
    shown = ", ".join(str(index) for index in indices[:8])
    return f"{shown}, ... ({len(indices)} in all)" if len(indices) > 8 else shown
