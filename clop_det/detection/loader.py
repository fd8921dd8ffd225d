"""Training and test loaders whose batches and augmentations are functions of (seed, iteration, place in the batch)."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from torch.utils.data import DataLoader, Dataset, Sampler

from clop_det.annotations.chosen import Chosen
from clop_det.annotations.datasets import load_dataset
from clop_det.annotations.fractions import choose, image_keys
from clop_det.annotations.images import read_image
from clop_det.annotations.table import Table
from clop_det.data.decoding import CarriesDecoding
from clop_det.detection.batches import BatchSchedule
from clop_det.engine.seeding import derive_seed
from clop_det.engine.workers import batch_loader
from clop_det.errors import UserError

Record = dict[str, Any]


class ImageCache:
    """Decoded images, kept up to `limit` bytes; what does not fit is decoded again each time."""

    def __init__(self, image_format: str, limit: int) -> None:
        self._format = image_format
        self._room = limit
        self._images: dict[str, np.ndarray] = {}

    def read(self, record: Record) -> np.ndarray:
        """The image (H, W, 3) uint8 of a dataset dict, to be copied before it is changed.

        Raises:
            UserError: it cannot be decoded, or has another size than its annotation says.
        """
        path = record["file_name"]
        image = self._images.get(path)
        if image is None:
            image = read_image(record, self._format)
            if image.nbytes <= self._room:
                self._room -= image.nbytes
                self._images[path] = image
        try:
            utils.check_image_size(record, image)
        except utils.SizeMismatchError as error:
            raise UserError(str(error)) from error
        return image


class _AtLeastAPixel(T.Augmentation):
    """An augmentation of Detectron2 that leaves a very flat image (3000 x 6 pixels) one row instead of none."""

    def __init__(self, step: T.Augmentation) -> None:
        super().__init__()
        self.step = step
        self.input_args = self.step.input_args

    def get_transform(self, *inputs: Any) -> T.Transform:
        transform = self.step.get_transform(*inputs)
        if isinstance(transform, T.ResizeTransform):
            transform.new_h, transform.new_w = max(1, transform.new_h), max(1, transform.new_w)
        return transform


class CachingMapper(DatasetMapper):
    """Detectron2's DatasetMapper, fed from an `ImageCache` and seeded for each sample."""

    def __init__(self, cfg: CfgNode, is_train: bool, cache: ImageCache) -> None:
        super().__init__(cfg, is_train)
        self._cache = cache
        self.augmentations: T.AugmentationList = T.AugmentationList(
            [_AtLeastAPixel(step) for step in self.augmentations.augs]
        )

    def map(self, record: Record, seed: int | None) -> Record:
        """What the model takes for one dataset dict; augmentation is drawn from `seed`."""
        if seed is not None:
            # Detectron2's augmentations draw from NumPy's global generator.
            np.random.seed(seed % 2**32)
            random.seed(seed)
        record = copy.deepcopy(record)
        # Transforms return new arrays, but the "no change" ones return their input.
        inputs = T.AugInput(self._cache.read(record).copy())
        transforms = self.augmentations(inputs)
        record["image"] = torch.as_tensor(np.ascontiguousarray(inputs.image.transpose(2, 0, 1)))
        if self.is_train:
            self._transform_annotations(record, transforms, inputs.image.shape[:2])
        else:
            record.pop("annotations", None)
        return record


class _Batches(CarriesDecoding, Dataset):  # type: ignore[type-arg]
    """Maps (iteration, indices, first place) to the list of mapped records."""

    def __init__(self, records: Sequence[Record], mapper: CachingMapper, seed: int | None) -> None:
        self._records = records
        self._mapper = mapper
        self._seed = seed

    def __getitem__(self, key: tuple[int, list[int], int]) -> list[Record]:
        iteration, indices, first = key
        seeds = [
            None if self._seed is None else derive_seed(self._seed, "augment", iteration, first + place)
            for place in range(len(indices))
        ]
        return [self._mapper.map(self._records[i], seed) for i, seed in zip(indices, seeds, strict=True)]


class _LocalPart(Sampler):  # type: ignore[type-arg]
    """This process's part of each global batch."""

    def __init__(self, schedule: BatchSchedule, start: int, rank: int, local: int) -> None:
        self._schedule, self._start, self._rank, self._local = schedule, start, rank, local

    def __iter__(self) -> Iterator[tuple[int, list[int], int]]:
        first = self._rank * self._local
        for iteration, indices in self._schedule.starting_at(self._start):
            yield iteration, indices[first : first + self._local], first


def training_records(cfg: CfgNode) -> Chosen:
    """Dataset dicts to train on: of `candidate_records`, those that DATASETS.TRAIN_FRACTION or its file chooses.

    Raises:
        UserError: nothing is left; see `fractions.choose`.
    """
    candidates = candidate_records(cfg)
    if cfg.DATASETS.TRAIN_FRACTION == 1 and not cfg.DATASETS.TRAIN_SPLIT_FILE:
        return candidates
    return candidates.take(choose(cfg, image_keys(candidates.heads())))


def candidate_records(cfg: CfgNode) -> Chosen:
    """Dataset dicts of all of DATASETS.TRAIN; without images that hold nothing to learn, if the config says so.

    Raises:
        UserError: nothing is left; MODEL.MASK_ON, and no box has a mask or one is of another kind than
            INPUT.MASK_FORMAT admits.
    """
    masked = cfg.MODEL.MASK_ON
    records = Chosen([(name, load_dataset(name, masked=masked)) for name in cfg.DATASETS.TRAIN])
    if masked:
        _check_masks(cfg, records)
    kept = records
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        kept = records.take(np.flatnonzero(records.gather(Table.learnable)))
    if not kept:
        raise UserError(
            f"none of the {len(records)} images of {', '.join(cfg.DATASETS.TRAIN)} has a box to learn from."
        )
    return kept


def _check_masks(cfg: CfgNode, records: Chosen) -> None:
    for name, table in records.parts:
        coded = np.flatnonzero((table.boxes.code_size > 0) & (table.boxes.crowd == 0))
        if cfg.INPUT.MASK_FORMAT == "polygon" and len(coded):
            raise UserError(
                f"INPUT.MASK_FORMAT is polygon, but {name} has a mask as a run-length code"
                f" ({table.images.file[table.boxes.owner[coded[0]]]}). Set INPUT.MASK_FORMAT to bitmask, which takes"
                " both."
            )
    if not any((table.boxes.crowd == 0).any() for _, table in records.parts):
        raise UserError(
            f"MODEL.MASK_ON is True, but no box of {', '.join(cfg.DATASETS.TRAIN)} has a mask to learn from. Set"
            " MODEL.MASK_ON to False, or train on a data set with masks."
        )


def train_loader(
    cfg: CfgNode, records: Chosen, start: int, rank: int, world_size: int, *, purpose: str = "train"
) -> DataLoader:  # type: ignore[type-arg]
    """Batches `start`, `start` + 1, ... of this process, without end, each a list of mapped records.

    Args:
        purpose: another one gives another order and other augmentations (the batches for precise BN).

    Raises:
        UserError: SOLVER.IMS_PER_BATCH cannot be shared by the processes.
    """
    batch = cfg.SOLVER.IMS_PER_BATCH
    if batch < 1 or batch % world_size:
        raise UserError(f"SOLVER.IMS_PER_BATCH is {batch}; {world_size} processes cannot share it evenly.")
    seed = derive_seed(cfg.SEED, "detection", purpose)
    wide = records.gather(lambda table: table.images.width > table.images.height).tolist()
    schedule = BatchSchedule(wide, batch, seed, grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING)
    mapper = CachingMapper(cfg, True, _cache(cfg))
    sampler = _LocalPart(schedule, start, rank, batch // world_size)
    return _loader(cfg, _Batches(records, mapper, seed), sampler)


def inference_loader(cfg: CfgNode, records: Sequence[Record], rank: int = 0, world_size: int = 1) -> DataLoader:  # type: ignore[type-arg]
    """This process's share of the test images, in order; only images of one size share a batch.

    So no image is padded to another's size, and the detections are those of one image at a time.
    """
    share = range(len(records) * rank // world_size, len(records) * (rank + 1) // world_size)
    batches: list[list[int]] = []
    for index in share:
        record = records[index]
        size = (record["height"], record["width"])
        last = batches[-1] if batches else []
        same = last and size == (records[last[0]]["height"], records[last[0]]["width"])
        if same and len(last) < cfg.TEST.IMS_PER_BATCH:
            last.append(index)
        else:
            batches.append([index])
    mapper = CachingMapper(cfg, False, _cache(cfg))
    return _loader(cfg, _Batches(records, mapper, None), [(0, batch, 0) for batch in batches])


def has_box(record: Record) -> bool:
    """Whether a dataset dict holds a box of some extent that is not a crowd: something to learn from."""
    boxes = [utils.get_bbox(a) for a in record["annotations"] if not a.get("iscrowd", 0)]
    return any(box[2] > box[0] and box[3] > box[1] for box in boxes)


def _cache(cfg: CfgNode) -> ImageCache:
    """An even share of DATALOADER.CACHE_MIB: each worker process of each loader of a run keeps images of its own."""
    loaders = 1 + len(cfg.DATASETS.TEST) + bool(cfg.TEST.PRECISE_BN.ENABLED)
    limit = (cfg.DATALOADER.CACHE_MIB << 20) // (loaders * max(1, cfg.DATALOADER.NUM_WORKERS))
    return ImageCache(cfg.INPUT.FORMAT, limit)


def _loader(cfg: CfgNode, dataset: _Batches, sampler: Any) -> DataLoader:  # type: ignore[type-arg]
    workers = cfg.DATALOADER.NUM_WORKERS
    return batch_loader(dataset, sampler, workers, persistent_workers=workers > 0)
