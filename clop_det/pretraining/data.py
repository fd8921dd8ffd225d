"""The images, the label split and the views of a run, all functions of (config, seed, iteration)."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import Tensor

from clop_det.data.ahead import OneAhead
from clop_det.data.augment import AugmentSettings, ViewAugmentation
from clop_det.data.decoding import use_decoding
from clop_det.data.image_list import ImageList
from clop_det.data.label_studies import long_tail, noisy_labels
from clop_det.data.opening import ClassificationImages, list_images, open_images
from clop_det.data.split_files import load_split, save_split
from clop_det.data.splits import VisibleLabels, label_split
from clop_det.data.views import TWO_VIEWS, ReadBatch, ViewGroup, ViewPlan, Views, check_groups
from clop_det.engine.device import SideQueue, moved
from clop_det.engine.run_folder import has_begun
from clop_det.engine.seeding import derive_seed
from clop_det.errors import UserError
from clop_det.files import read_json

SPLIT_NAME = "label_split.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PretrainData:
    """Training images with the labels that the loss may see, and the images that the probes are evaluated on."""

    listed: ImageList
    """The training images as they lie on disk."""
    train: ClassificationImages
    evaluated: ClassificationImages | None
    """What the probes are evaluated on; None without probes."""
    visible: VisibleLabels
    """The training labels that the loss is told."""

    @cached_property
    def visible_labels(self) -> Tensor:
        """The same as labels (N,) of all training images, -1 where hidden."""
        return self.visible.masked(len(self.listed))

    @property
    def val(self) -> ClassificationImages:
        """The images that the probes are evaluated on, in a run that has probes."""
        assert self.evaluated is not None
        return self.evaluated

    @property
    def labelled(self) -> Tensor:
        """Sorted indices (L,) of the training images whose label is visible."""
        return self.visible.indices

    def label_share(self, cfg: CfgNode) -> float:
        """The share of the training labels that is visible: LABELS.FRACTION, or what another rule came to."""
        settings = cfg.LABELS
        if not (settings.SPLIT_FILE or settings.PER_CLASS or settings.IMBALANCE != 1):
            return float(settings.FRACTION)
        return round(len(self.labelled) / max(1, int((self.listed.labels >= 0).sum())), 6)


def open_data(cfg: CfgNode) -> PretrainData:
    """Open the images (the first time, they are decoded into the cache), and draw or load the label split.

    Raises:
        UserError: a root that does not exist, a fraction outside (0, 1], a class without images, another data set's
            split file, classes of the two splits that differ, nothing that the probes could be evaluated on.
    """
    settings, workers = cfg.CLASSIFICATION, cfg.DATALOADER.NUM_WORKERS
    use_decoding(cfg.INPUT)
    listed = list_images(settings, settings.TRAIN_SPLIT)
    train = open_images(settings, listed, workers)
    val = _evaluated(cfg, listed, workers) if cfg.PROBE.ENABLED else None
    return PretrainData(listed, train, val, visible_labels(cfg, listed))


def _evaluated(cfg: CfgNode, train: ImageList, workers: int) -> ClassificationImages:
    """The images that the probes are evaluated on; the bank is that of the training images."""
    settings = cfg.CLASSIFICATION
    try:
        val = open_images(settings, list_images(settings, settings.EVAL_SPLIT), workers)
    except UserError as error:
        raise UserError(
            f"{error} (The probes need CLASSIFICATION.EVAL_SPLIT; PROBE.ENABLED False goes without.)"
        ) from error
    if train.classes != val.classes:
        raise UserError(
            f"the classes of {settings.TRAIN_SPLIT} and {settings.EVAL_SPLIT} in {settings.ROOT} differ:"
            f" {', '.join(sorted(set(train.classes) ^ set(val.classes)))} in one only."
        )
    for key, labels in (("TRAIN_SPLIT", train.labels), ("EVAL_SPLIT", val.labels)):
        if not bool((labels >= 0).any()):
            raise UserError(
                f"CLASSIFICATION.{key} {settings[key]} of {settings.ROOT} has no labelled image for the probes. Choose"
                " another split, or set PROBE.ENABLED False."
            )
    return val


def log_data(data: PretrainData, eval_split: str) -> None:
    """How many images, labels and classes there are, and what the evaluation lacks, into the log."""
    labels, classes = data.listed.labels, data.listed.classes
    wrong = int((data.visible.told != labels[data.labelled]).sum())
    _log.info(
        "%d training images, %d of them labelled, %d labels visible to the loss%s; %d classes: %s",
        *(len(labels), int((labels >= 0).sum()), len(data.visible), f" ({wrong} of them wrong)" if wrong else ""),
        len(classes),
        ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "") if classes else "none",
    )
    if data.evaluated is None:
        return
    absent = [name for k, name in enumerate(classes) if not bool((data.evaluated.labels == k).any())]
    if absent:
        _log.warning(
            "%d of %d classes have no image in CLASSIFICATION.EVAL_SPLIT %s: %s",
            *(len(absent), len(classes), eval_split, ", ".join(absent[:20])),
        )


def visible_labels(cfg: CfgNode, listed: ImageList) -> VisibleLabels:
    """The labels of the training images that the loss is told, as LABELS.* says.

    Raises:
        UserError: a value of LABELS.* out of range, a split file that does not fit, a class without a visible label.
    """
    settings, classes = cfg.LABELS, listed.classes
    if not bool((listed.labels >= 0).any()) and not settings.SPLIT_FILE:
        nothing = torch.zeros(0, dtype=torch.int64)
        return VisibleLabels(nothing, nothing)
    seed = derive_seed(cfg.SEED, "labels")
    if settings.SPLIT_FILE:
        given = load_split(settings.SPLIT_FILE, listed)
        if (settings.NOISE or settings.IMBALANCE != 1) and not torch.equal(given.told, listed.labels[given.indices]):
            raise UserError(
                f"{settings.SPLIT_FILE} holds wrong labels already; set LABELS.NOISE 0 and LABELS.IMBALANCE 1 with it."
            )
        if not settings.NOISE and settings.IMBALANCE == 1:
            return given
        indices = given.indices
    else:
        indices = label_split(listed.labels, settings.FRACTION, seed, class_names=classes, per_class=settings.PER_CLASS)
    indices = long_tail(listed.labels, indices, settings.IMBALANCE, seed)
    return noisy_labels(listed.labels, indices, settings.NOISE, len(classes), seed, classes)


def record_split(cfg: CfgNode, data: PretrainData) -> None:
    """Freeze the visible labels into the run folder; a run that has begun checks that they are still the same."""
    path = Path(cfg.OUTPUT_DIR) / SPLIT_NAME
    if path.exists() and has_begun(path.parent) and not _is_damaged(path):
        if not torch.equal(load_split(path, data.listed).masked(len(data.listed)), data.visible_labels):
            raise UserError(f"{path} holds another label split than this run would use. Choose another OUTPUT_DIR.")
        return
    settings = cfg.LABELS
    if settings.SPLIT_FILE:
        source = {"given": settings.SPLIT_FILE}
    else:
        source = {"fraction": settings.FRACTION, "per_class": settings.PER_CLASS}
    facts = {**source, "imbalance": settings.IMBALANCE, "noise": settings.NOISE, "seed": cfg.SEED}
    save_split(path, data.listed, data.visible, facts)


def _is_damaged(path: Path) -> bool:
    """Whether a split that a run left is no JSON object any more; a warning then."""
    try:
        damage = "" if isinstance(read_json(path), dict) else "it is no JSON object"
    except UserError as error:
        damage = str(error)
    if damage:
        told = "it is written anew from the config and the data, and nothing tells whether these labels are the same"
        print(f"warning: {path} is damaged; {told} ({damage})", file=sys.stderr)
    return bool(damage)


class BatchSource:
    """Batch i of a run: views and labels of this rank's part of the global batch.

    Raises:
        UserError: a batch that is too small, too large or cannot be shared, views that nothing can make, or settings
            of the augmentation out of range.
    """

    def __init__(
        self,
        cfg: CfgNode,
        data: PretrainData,
        needed: tuple[ViewGroup, ...] = TWO_VIEWS,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | None = None,
    ) -> None:
        batch, size = cfg.SOLVER.IMS_PER_BATCH, cfg.CLASSIFICATION.IMAGE_SIZE
        self._check(batch, world_size, len(data.train))
        settings = AugmentSettings.from_config(cfg.AUGMENT)
        check_groups(needed, cfg.METHOD.NAME)

        def plan(group: ViewGroup, draws: str, further: tuple[ViewPlan, ...] = ()) -> ViewPlan:
            own = replace(settings, crop_scale=group.crop_scale or settings.crop_scale)
            augment = ViewAugmentation(own, group.size or size, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
            return ViewPlan(augment, cfg.SEED, len(data.train), batch, rank, world_size, group, further, draws)

        further = tuple(plan(group, f"augment {place}") for place, group in enumerate(needed[1:], 1))
        self._device = device or torch.device("cpu")
        self._views = data.train.views(plan(needed[0], "augment", further), self._device)
        self._labels = data.visible_labels
        self._queue = SideQueue(self._device)
        self._ahead = OneAhead(self._read, self._views.begin, cfg.SOLVER.MAX_ITER)

    def __call__(self, iteration: int) -> tuple[Views, Tensor]:
        """Views and labels (n,) of batch `iteration`, on the device; n = global batch / ranks.

        A thread reads the batch after it meanwhile.
        """
        batch, labels, mark = self._ahead(iteration)
        self._queue.join(mark, [*batch.tensors, labels])
        return self._views.make(batch), labels

    def _read(self, iteration: int) -> tuple[ReadBatch, Tensor, torch.cuda.Event | None]:
        """The batch and its labels, on the device once its queue has come to the mark; in the reading thread."""
        with self._queue.entered():
            batch = self._views.read(iteration).to(self._device)
            labels = moved(self._labels[self._views.plan.indices(iteration)], self._device)
            return batch, labels, self._queue.mark()

    @staticmethod
    def _check(batch: int, world_size: int, images: int) -> None:
        if batch < 2 or batch > images:
            raise UserError(f"SOLVER.IMS_PER_BATCH is {batch}; it must lie between 2 and the {images} training images.")
        if batch % world_size:
            raise UserError(f"SOLVER.IMS_PER_BATCH is {batch}; {world_size} processes cannot share it evenly.")
