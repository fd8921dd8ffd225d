"""The probes of a detector's backbone, as it is now: on a classification set, and on the annotated boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from clop_det.data.images import Images, Subset
from clop_det.data.opening import list_images, open_images, probe_indices
from clop_det.detection.model import pooled_features
from clop_det.detection.objects import object_crops
from clop_det.engine.precision import autocast
from clop_det.engine.seeding import generator
from clop_det.errors import UserError
from clop_det.probes.encoding import run_probes

Labelled = tuple[Images | Tensor, Tensor]  # images (N, 3, S, S) uint8 RGB, labels (N,) int64


class Probes:
    """kNN, linear probe, RankMe and geometry, on one pair of labelled image sets.

    Args:
        cfg: PROBE.* and INPUT.FORMAT.
        read: gives (bank, queries), whenever the probes run.
    """

    def __init__(self, cfg: CfgNode, read: Callable[[], tuple[Labelled, Labelled]]) -> None:
        self._probe = cfg.PROBE
        self._rgb = cfg.INPUT.FORMAT == "RGB"
        self._read = read

    def run(self, model: nn.Module, bf16: bool, check: Callable[[], None] = lambda: None) -> dict[str, float]:
        """The figures of `run_probes`; leaves the model in the mode it was in.

        Args:
            check: called before each batch; may raise to stop.
        """
        bank, queries = self._read()

        def encode(images: Tensor) -> Tensor:
            check()
            return self._encode(model, images, bf16)

        was_training = model.training
        model.eval()
        try:
            return run_probes(
                encode,
                *bank,
                *queries,
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
            return pooled_features(model, normalised).cpu()


def classification_probes(cfg: CfgNode) -> Probes:
    """The probes on the images of CLASSIFICATION.*.

    Raises:
        UserError: the images cannot be opened, or their two splits have other classes.
    """
    settings = cfg.CLASSIFICATION
    bank, queries = (
        open_images(settings, list_images(settings, split)) for split in (settings.TRAIN_SPLIT, settings.EVAL_SPLIT)
    )
    if bank.classes != queries.classes:
        differing = ", ".join(sorted(set(bank.classes) ^ set(queries.classes)))
        raise UserError(f"the probes' two splits in {settings.ROOT} differ in their classes: {differing} in one only.")
    # The same subsets as in pretraining with the same limits.
    chosen = probe_indices(bank.labels, cfg.PROBE.MAX_BANK, cfg.SEED)
    asked = probe_indices(queries.labels, cfg.PROBE.MAX_QUERIES, cfg.SEED, "probe queries")
    sets = (
        (Subset(bank.images, chosen), bank.labels[chosen]),
        (Subset(queries.images, asked), queries.labels[asked]),
    )
    return Probes(cfg, lambda: sets)


class ObjectSets:
    """The annotated boxes of training and test sets as labelled images, read once and kept.

    Args:
        cfg: PROBE.MAX_OBJECTS boxes of each set, as squares of PROBE.OBJECT_SIZE pixels.
        records: dataset dicts of the training images.
    """

    def __init__(self, cfg: CfgNode, records: Sequence[dict[str, Any]]) -> None:
        self._cfg = cfg
        self._records = records
        self._bank: Labelled | None = None

    def probes(self, test_records: Sequence[dict[str, Any]]) -> Probes:
        """The probes with boxes of the training images as the bank and those of a test set as the queries."""
        queries: list[Labelled] = []

        def read() -> tuple[Labelled, Labelled]:
            if self._bank is None:
                self._bank = self._crops(self._records, "object bank")
            if not queries:
                queries.append(self._crops(test_records, "object queries"))
            return self._bank, queries[0]

        return Probes(self._cfg, read)

    def _crops(self, records: Sequence[dict[str, Any]], purpose: str) -> Labelled:
        probe = self._cfg.PROBE
        side = probe.OBJECT_SIZE or self._cfg.CLASSIFICATION.IMAGE_SIZE
        return object_crops(records, probe.MAX_OBJECTS, side, generator(self._cfg.SEED, purpose))
