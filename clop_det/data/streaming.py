"""Images too large to be stored: decoded each time they are needed.

For a batch, worker processes decode each image once and cut its random crops to the views' size; the device does
the rest of the augmentation. A worker makes a shard of a batch at a time, image by image, so that what lies ready in
shared memory is two batches, however many workers there are. The crops of an image depend on (seed, i, its place)
alone: not on the workers, nor on which of them is quick. A run that resumes at batch i starts the workers there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from detectron2.utils import comm
from torch import Tensor

from clop_det.data.crops import EXACT
from clop_det.data.decoding import Pixels, UnreadableImage, centre_square
from clop_det.data.image_list import ImageList
from clop_det.data.images import Index
from clop_det.data.shards import Cutter, Shard, Tasks
from clop_det.data.unreadable import Replacements, Unreadable
from clop_det.data.views import BatchViews, ReadBatch, ViewPlan, Views
from clop_det.engine.device import host_buffer
from clop_det.engine.workers import batch_loader, check_shared_memory, cores
from clop_det.errors import UserError

_PREFETCH = 2  # shards that each worker makes ahead, so batches that lie ready

_log = logging.getLogger(__name__)


class StreamedImages:
    """The central squares (N, 3, S, S) of images that are decoded when they are asked for (see `centre_square`)."""

    def __init__(self, listed: ImageList, size: int, replacements: Replacements) -> None:
        self._listed, self._replacements = listed, replacements
        self._threads = min(8, cores())
        self.shape = (len(listed), 3, size, size)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> Tensor:
        numbers = torch.arange(len(self))[index]
        with ThreadPoolExecutor(self._threads) as pool:
            read = list(pool.map(self._square, numbers.reshape(-1).tolist()))
        self._replacements.add({index: used for index, used, _ in read if index != used})
        found = torch.empty((len(read), *self.shape[1:]), dtype=torch.uint8)
        for place, (_, _, square) in enumerate(read):
            found[place] = torch.from_numpy(square)
        return found[0] if numbers.dim() == 0 else found

    def _square(self, index: int) -> tuple[int, int, Pixels]:
        policy = self._replacements.policy
        image, used = policy.read(index, self._listed.labels, self._listed.source.image)
        return index, used, centre_square(image, self.shape[-1])


class StreamedViews(BatchViews):
    """The views of batch i, cut by `workers` processes (0: by this one) and finished on `device`.

    Workers start with the first batch that is asked for, and anew when another than the next one is.

    Raises:
        UserError: the shared memory is too small for what the workers hand over.
    """

    def __init__(
        self,
        listed: ImageList,
        plan: ViewPlan,
        device: torch.device,
        replacements: Replacements,
        workers: int,
        crops: str = EXACT,
    ) -> None:
        super().__init__(plan, device)
        self._listed, self._replacements, self._workers, self._crops = listed, replacements, workers, crops
        self._next = -1
        self._shards: Iterator[Shard] = iter(())
        if workers:
            count, size = plan.local * comm.get_local_size(), plan.augment.size
            pixels = sum(len(group.group.kinds) * group.augment.size**2 for group in plan.groups)
            check_shared_memory((_PREFETCH + 1) * count * 3 * pixels, f"batches of {count} images of {size} px")

    def begin(self, iteration: int) -> None:
        if iteration != self._next:
            self._next, self._shards = iteration, self._start(iteration)

    def read(self, iteration: int) -> ReadBatch:
        self.begin(iteration)
        self._next = -1  # a batch that fails leaves the rest of its shards behind
        plans, count = self.plan.groups, self.plan.local
        sides = [(len(plan.group.kinds), count, plan.augment.size, plan.augment.size, 3) for plan in plans]
        crops = tuple(host_buffer(side, torch.uint8, self.device).movedim(-1, 2) for side in sides)
        boxes = tuple(torch.empty((*side[:2], 4)) for side in sides)
        replaced: dict[int, int] = {}
        place = 0
        while place < count:
            shard = next(self._shards)
            if shard.error:
                raise UnreadableImage(shard.error)
            end = place + shard.crops[0].shape[1]
            for whole, part in zip((*crops, *boxes), (*shard.crops, *shard.boxes), strict=True):
                whole[:, place:end] = part
            replaced |= shard.replaced
            place = end
        self._next = iteration + 1
        return ReadBatch(crops, tuple(plan.parameters(iteration) for plan in plans), boxes, replaced)

    def make(self, batch: ReadBatch) -> Views:
        self._replacements.add(batch.replaced)
        groups = zip(self.plan.groups, batch.pixels, batch.parameters, batch.boxes, strict=True)
        first, *further = (
            plan.seen(plan.augment.apply_to_crops(crops, parameters), boxes, parameters)
            for plan, crops, parameters, boxes in groups
        )
        return replace(first, further=tuple(further))

    def _start(self, iteration: int) -> Iterator[Shard]:
        loader = batch_loader(
            Cutter(self._listed, self.plan, self._replacements.policy, self._crops),
            Tasks(iteration, self.plan.local, max(1, self._workers)),
            self._workers,
            prefetch_factor=_PREFETCH if self._workers else None,
        )
        return iter(loader)


@dataclass(frozen=True)
class ImageStream:
    """The images of one split, decoded when they are needed; the same attributes as an `ImageStore`."""

    listed: ImageList
    images: StreamedImages
    replacements: Replacements
    workers: int
    crops: str = EXACT

    @property
    def labels(self) -> Tensor:
        """(N,) int64, -1 = unlabelled."""
        return self.listed.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """K class names."""
        return self.listed.classes

    @property
    def files(self) -> tuple[str, ...]:
        """N file names."""
        return self.listed.files

    def __len__(self) -> int:
        return len(self.listed)

    def views(self, plan: ViewPlan, device: torch.device) -> StreamedViews:
        """The views of the batches of `plan`."""
        return StreamedViews(self.listed, plan, device, self.replacements, self.workers, self.crops)


def open_stream(
    listed: ImageList, size: int, workers: int = 0, unreadable: Unreadable | None = None, crops: str = EXACT
) -> ImageStream:
    """The images of `listed` as squares and views of `size` pixels; views are cut by `workers` processes.

    Args:
        crops: how they are cut, "exact" or "fast" (CLASSIFICATION.STREAM_CROPS).

    Raises:
        UserError: there is no image.
    """
    if len(listed) == 0:
        raise UserError(f"no image in {listed.root}")
    replacements = Replacements(unreadable or Unreadable(), listed.files)
    return ImageStream(listed, StreamedImages(listed, size, replacements), replacements, workers, crops)
