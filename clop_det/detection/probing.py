"""The classification probes of a detector's residual network, as it is now."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from clop_det.data.images import Subset
from clop_det.data.opening import list_images, open_images, probe_indices
from clop_det.detection.model import residual_features
from clop_det.engine.precision import autocast
from clop_det.errors import UserError
from clop_det.evaluation.probes import run_probes


class ClassificationProbes:
    """kNN, linear probe, RankMe and geometry on the images of CLASSIFICATION.*.

    Raises:
        UserError: the images cannot be opened, or their two splits have other classes.
    """

    def __init__(self, cfg: CfgNode) -> None:
        settings = cfg.CLASSIFICATION
        self._bank, self._queries = (
            open_images(settings, list_images(settings, split)) for split in (settings.TRAIN_SPLIT, settings.EVAL_SPLIT)
        )
        if self._bank.classes != self._queries.classes:
            differing = ", ".join(sorted(set(self._bank.classes) ^ set(self._queries.classes)))
            raise UserError(
                f"the probes' two splits in {settings.ROOT} differ in their classes: {differing} in one only."
            )
        self._probe = cfg.PROBE
        self._rgb = cfg.INPUT.FORMAT == "RGB"
        # The same subset as in pretraining.
        self._chosen = probe_indices(self._bank.labels, cfg.PROBE.MAX_BANK, cfg.SEED)
        self._asked = probe_indices(self._queries.labels)

    def run(self, model: nn.Module, bf16: bool) -> dict[str, float]:
        """The figures of `run_probes`; leaves the model in the mode it was in."""
        was_training = model.training
        model.eval()
        try:
            return run_probes(
                lambda images: self._encode(model, images, bf16),
                Subset(self._bank.images, self._chosen),
                self._bank.labels[self._chosen],
                Subset(self._queries.images, self._asked),
                self._queries.labels[self._asked],
                ks=tuple(self._probe.KNN_K),
                batch_size=self._probe.BATCH_SIZE,
                temperature=self._probe.KNN_TEMPERATURE,
            )
        finally:
            model.train(was_training)

    def _encode(self, model: nn.Module, images: Tensor, bf16: bool) -> Tensor:
        """Features (n, D) on the CPU of images (n, 3, S, S) uint8 RGB."""
        device = model.pixel_mean.device  # type: ignore[union-attr]
        images = images if self._rgb else images.flip(1)
        with torch.no_grad(), autocast(bf16, device):  # type: ignore[arg-type]
            normalised = (images.to(device).float() - model.pixel_mean) / model.pixel_std  # type: ignore[operator,arg-type]
            return residual_features(model, normalised).cpu()
