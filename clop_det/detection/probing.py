"""The probes of a detector's backbone, as it is now: on a classification set, and on the annotated boxes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from clop_det.backbones.detectors import bottom_up
from clop_det.backbones.folded import folded
from clop_det.data.images import Subset
from clop_det.data.opening import list_images, open_images, probe_indices
from clop_det.detection.loader import training_records
from clop_det.detection.model import pooled_features
from clop_det.detection.objects import object_crops, usable_boxes
from clop_det.engine.precision import autocast
from clop_det.engine.seeding import generator
from clop_det.errors import UserError
from clop_det.figures import PROBE
from clop_det.probes.base import BOXES, IMAGES, ProbeData
from clop_det.probes.encoding import Labelled, encode_sets
from clop_det.probes.running import build_tasks, run_tasks

_log = logging.getLogger(__name__)
Read = Callable[[], tuple[Labelled, Labelled]]  # gives bank and queries


class Probes:
    """The tasks of PROBE.TASKS on the data of a fine-tuning.

    Args:
        cfg: PROBE.*, CLASSIFICATION.* and INPUT.FORMAT.
        train: dataset dicts of the training images; None: they are read if they can be, for an evaluation alone.
        tests: prefix of the figures' names ("", or "<test set>/") -> dataset dicts of the test set.

    Raises:
        UserError: see `build_tasks` and `classification_sets`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        train: Sequence[dict[str, Any]] | None,
        tests: Mapping[str, Sequence[dict[str, Any]]],
    ) -> None:
        self._batch_size = cfg.PROBE.BATCH_SIZE
        self._rgb = cfg.INPUT.FORMAT == "RGB"
        self._tasks = build_tasks(cfg)
        needs = {task.needs for task in self._tasks}
        self._sets: dict[str, dict[str, Read]] = {}
        if IMAGES in needs and cfg.CLASSIFICATION.ROOT:
            self._sets[IMAGES] = {f"{PROBE}/": classification_sets(cfg)}
        records = (train or _records_if_any(cfg)) if BOXES in needs else None
        if records is not None:
            bank = cache(lambda: crops(cfg, records, "object bank"))
            self._sets[BOXES] = {
                f"{prefix}{PROBE}/": box_sets(cfg, bank, test)
                for prefix, test in tests.items()
                if _has_boxes("the training set", records) and _has_boxes(f"test set {prefix}".strip(" /"), test)
            }

    def run(self, model: nn.Module, bf16: bool, check: Callable[[], None] = lambda: None) -> dict[str, float]:
        """The figures of the tasks, on the main process; all call it. Leaves the model in the mode it was in.

        Args:
            check: called before each batch; may raise to stop.
        """

        def encode(images: Tensor) -> Tensor:
            check()
            return self._encode(model, images, bf16)

        def data(read: Read) -> Callable[[], ProbeData]:
            return lambda: encode_sets(encode, *read(), self._batch_size)

        if not self._sets:
            return {}
        was_training = model.training
        model.eval()
        try:
            sources = {need: {prefix: data(read) for prefix, read in sets.items()} for need, sets in self._sets.items()}
            with folded(bottom_up(model)):
                return run_tasks(self._tasks, sources)
        finally:
            model.train(was_training)

    def _encode(self, model: nn.Module, images: Tensor, bf16: bool) -> Tensor:
        """Features (n, D), on the model's device, of images (n, 3, S, S) uint8 RGB."""
        device = model.pixel_mean.device  # type: ignore[union-attr]
        images = images if self._rgb else images.flip(1)
        with torch.no_grad(), autocast(bf16, device):  # type: ignore[arg-type]
            normalised = (images.to(device).float() - model.pixel_mean) / model.pixel_std  # type: ignore[operator,arg-type]
            return pooled_features(model, normalised)


def _has_boxes(what: str, records: Sequence[dict[str, Any]]) -> bool:
    found = any(map(usable_boxes, records))
    if not found:
        _log.warning(
            "no object probe: no box of the %d images of %s is neither a crowd nor difficult", len(records), what
        )
    return found


def _records_if_any(cfg: CfgNode) -> Sequence[dict[str, Any]] | None:
    try:
        return training_records(cfg)
    except UserError as error:
        # An evaluation alone needs no training images for its AP.
        _log.warning("no object probe, which learns from the training images: %s", error)
        return None


def classification_sets(cfg: CfgNode) -> Read:
    """Bank and queries from the images of CLASSIFICATION.*.

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
    return lambda: sets


def box_sets(cfg: CfgNode, bank: Callable[[], Labelled], test: Sequence[dict[str, Any]]) -> Read:
    """Boxes of the training images as the bank and those of a test set as the queries, read once and kept."""
    queries = cache(lambda: crops(cfg, test, "object queries"))
    return lambda: (bank(), queries())


def crops(cfg: CfgNode, records: Sequence[dict[str, Any]], purpose: str) -> tuple[Tensor, Tensor]:
    """At most PROBE.OBJECTS.MAX boxes as squares of PROBE.OBJECTS.SIZE pixels; see `object_crops`."""
    settings = cfg.PROBE.OBJECTS
    side = settings.SIZE or cfg.CLASSIFICATION.IMAGE_SIZE
    return object_crops(records, settings.MAX, side, generator(cfg.SEED, purpose))
