"""What a worker makes of images that stream: shards, which are some neighbours of a batch, cut to the views' sizes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from clop_det.data.crops import EXACT, Box, Opened, Share, WholeImage, factor_for
from clop_det.data.decoding import CarriesDecoding, UnreadableImage
from clop_det.data.image_list import ImageList
from clop_det.data.unreadable import Unreadable
from clop_det.data.views import ViewPlan


@dataclass(frozen=True)
class Shard:
    """Some neighbours of a batch as a worker hands them over.

    Attributes:
        crops: of each group of views (V, m, 3, S, S) uint8, first all first views; the colours of a pixel lie next to
            each other in memory.
        boxes: of each group (V, m, 4) float32, where they were cut: x0, y0, x1, y1 in pixels of the upright image.
        replaced: index of each unreadable image among them -> index of the image that stands in.
        error: what a worker cannot raise without a traceback of its own.
    """

    crops: tuple[Tensor, ...] = ()
    boxes: tuple[Tensor, ...] = ()
    replaced: dict[int, int] = field(default_factory=dict)
    error: str = ""


Task = tuple[int, int, int]  # iteration, first place and end in this process's part of the batch


class Cutter(CarriesDecoding, Dataset[Shard]):
    """The shard of a task, each image cut as soon as it is decoded."""

    def __init__(self, listed: ImageList, plan: ViewPlan, unreadable: Unreadable, crops: str = EXACT) -> None:
        self._listed, self._plan, self._unreadable, self._crops = listed, plan, unreadable, crops

    def __getitem__(self, task: Task) -> Shard:
        iteration, start, stop = task
        indices = self._plan.indices(iteration)[start:stop].tolist()
        crops, replaced = _room(self._plan, len(indices)), {}
        boxes: list[list[list[Box]]] = [[[] for _ in plan.group.kinds] for plan in self._plan.groups]
        shares = _Shares(self._plan, iteration, start, [self._aspect(index) for index in indices])
        for place, index in enumerate(indices):
            try:
                image, used = self._unreadable.read(index, self._listed.labels, self._load(shares, place))
            except UnreadableImage as error:
                return Shard(error=str(error))
            if used != index:
                replaced[index] = used
            of_groups = shares.of(place, image.width, image.height)
            for views, where, of_group in zip(crops, boxes, of_groups, strict=True):
                for view, share in enumerate(of_group):
                    where[view].append(image.cut(share, views[view, place]))
        return Shard(crops, tuple(torch.tensor(where, dtype=torch.float32) for where in boxes), replaced)

    def _load(self, shares: _Shares, place: int) -> Callable[[int], Opened]:
        """What decodes an image for the crops of the image at `place` of the shard."""
        source = self._listed.source
        if self._crops == EXACT:
            return lambda index: WholeImage(source.image(index))
        sizes = [plan.augment.size for plan in self._plan.groups]

        def choose(width: int, height: int) -> int:
            of_groups = zip(shares.of(place, width, height), sizes, strict=True)
            return factor_for([(share, size) for of_group, size in of_groups for share in of_group], width, height)

        return lambda index: source.reduced(index, choose)

    def _aspect(self, index: int) -> float:
        """Width by height of an image as its header says; 1 if that cannot be read."""
        try:
            width, height = self._listed.source.extent(index)
        except UnreadableImage:
            return 1.0
        return width / height


class _Shares:
    """The crops of a shard's images in shares of them, drawn for the aspects that the headers say until one is wrong.

    Args:
        aspects: width by height of each of its images.
    """

    def __init__(self, plan: ViewPlan, iteration: int, start: int, aspects: list[float]) -> None:
        self._plan, self._iteration, self._start, self._aspects = plan, iteration, start, aspects
        self._drawn = self._draw()

    def of(self, place: int, width: int, height: int) -> list[list[Share]]:
        """Of each group of views, of each view: the crop of the image at `place` of the shard, if it has this size."""
        if width / height != self._aspects[place]:  # another image stands in, or the header is wrong
            self._aspects[place] = width / height
            self._drawn = self._draw()
        return [of_group[place] for of_group in self._drawn]

    def _draw(self) -> list[Any]:
        aspects = torch.ones(self._plan.local)
        own = slice(self._start, self._start + len(self._aspects))
        aspects[own] = torch.tensor(self._aspects)
        return [plan.parameters(self._iteration, aspects).boxes[own].tolist() for plan in self._plan.groups]


def _room(plan: ViewPlan, count: int) -> tuple[Tensor, ...]:
    """Room for the crops of `count` images, of each group of views, as images lie in memory: pixel after pixel."""
    return tuple(
        torch.empty((len(p.group.kinds), count, p.augment.size, p.augment.size, 3), dtype=torch.uint8).movedim(-1, 2)
        for p in plan.groups
    )


class Tasks:
    """The tasks of batches `first`, `first` + 1, ... without end, each batch of `count` images in `shards` of them."""

    def __init__(self, first: int, count: int, shards: int) -> None:
        self._first, self._count, self._size = first, count, -(-count // shards)

    def __iter__(self) -> Iterator[Task]:
        for iteration in itertools.count(self._first):
            for start in range(0, self._count, self._size):
                yield iteration, start, min(start + self._size, self._count)
