"""Images too large to be stored: decoded each time they are needed.

For a batch, worker processes decode each image once and cut its random crops to the views' size; the device does
the rest of the augmentation. A worker makes a whole batch, so the batches depend neither on the number of workers nor
on which of them is quick, and a run that resumes at batch i starts the workers there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from clop_det.data.decoding import CarriesDecoding, Pixels, UnreadableImage, centre_square, resized_box, whole_pixels
from clop_det.data.image_list import ImageList
from clop_det.data.images import Index
from clop_det.data.unreadable import Replacements, Unreadable
from clop_det.data.views import ViewPlan, Views
from clop_det.engine.device import moved
from clop_det.engine.workers import batch_loader, cores
from clop_det.errors import UserError

_PREFETCH = 2  # batches that each worker makes ahead

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


@dataclass(frozen=True)
class CutBatch:
    """One batch as the workers hand it over.

    Attributes:
        crops: of each group of views (V, n, 3, S, S) uint8, first all first views.
        boxes: of each group (V, n, 4) float32, where they were cut: x0, y0, x1, y1 in pixels of the upright image.
        replaced: index of each unreadable image in it -> index of the image that stands in.
        error: what a worker cannot raise without a traceback of its own.
    """

    crops: tuple[Tensor, ...]
    boxes: tuple[Tensor, ...]
    replaced: dict[int, int]
    error: str = ""


class _Cutter(CarriesDecoding, Dataset[CutBatch]):
    """Batch i, cut."""

    def __init__(self, listed: ImageList, plan: ViewPlan, unreadable: Unreadable) -> None:
        self._listed, self._plan, self._unreadable = listed, plan, unreadable

    def __getitem__(self, iteration: int) -> CutBatch:
        replaced: dict[int, int] = {}
        images: list[Image.Image] = []
        try:
            for index in self._plan.indices(iteration).tolist():
                image, used = self._unreadable.read(index, self._listed.labels, self._listed.source.image)
                images.append(image)
                if used != index:
                    replaced[index] = used
        except UnreadableImage as error:
            return CutBatch((), (), replaced, str(error))
        cut = [_cut(images, plan, iteration) for plan in (self._plan, *self._plan.further)]
        return CutBatch(tuple(crops for crops, _ in cut), tuple(boxes for _, boxes in cut), replaced)


def _cut(images: list[Image.Image], plan: ViewPlan, iteration: int) -> tuple[Tensor, Tensor]:
    """The crops and boxes of one group of views."""
    size, views = plan.augment.size, len(plan.group.kinds)
    crops = torch.empty((views, len(images), 3, size, size), dtype=torch.uint8)
    boxes = torch.empty((views, len(images), 4))
    aspect = torch.tensor([image.width / image.height for image in images])
    shares = plan.parameters(iteration, aspect).boxes.tolist()
    for place, image in enumerate(images):
        for view in range(views):
            share = shares[place][view]
            crops[view, place] = torch.from_numpy(resized_box(image, share, size))
            boxes[view, place] = torch.tensor(whole_pixels(share, image.width, image.height))
    return crops, boxes


class _From:
    """Iterations `start`, `start` + 1, ... without end."""

    def __init__(self, start: int) -> None:
        self._start = start

    def __iter__(self) -> Iterator[int]:
        iteration = self._start
        while True:
            yield iteration
            iteration += 1


class StreamedViews:
    """The views of batch i, cut by `workers` processes (0: by this one) and finished on `device`.

    Workers start with the first batch that is asked for, and anew when another than the next one is.

    Raises:
        UserError: an image cannot be read, or more than CLASSIFICATION.MAX_UNREADABLE allows.
    """

    def __init__(
        self, listed: ImageList, plan: ViewPlan, device: torch.device, replacements: Replacements, workers: int
    ) -> None:
        self._listed, self._plan, self._device = listed, plan, device
        self._replacements, self._workers = replacements, workers
        self._next = -1
        self._batches: Iterator[CutBatch] = iter(())

    def __call__(self, iteration: int) -> Views:
        if iteration != self._next:
            self._batches = self._start(iteration)
        self._next = iteration + 1
        batch = next(self._batches)
        if batch.error:
            raise UnreadableImage(batch.error)
        self._replacements.add(batch.replaced)
        groups = zip((self._plan, *self._plan.further), batch.crops, batch.boxes, strict=True)
        first, *further = (self._finished(*group, iteration) for group in groups)
        return replace(first, further=tuple(further))

    def _finished(self, plan: ViewPlan, crops: Tensor, boxes: Tensor, iteration: int) -> Views:
        parameters = plan.parameters(iteration).to(self._device)
        pixels = plan.augment.apply_to_crops(moved(crops, self._device), parameters)
        return plan.seen(pixels, moved(boxes, self._device), parameters)

    def _start(self, iteration: int) -> Iterator[CutBatch]:
        loader = batch_loader(
            _Cutter(self._listed, self._plan, self._replacements.policy),
            _From(iteration),
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
        return StreamedViews(self.listed, plan, device, self.replacements, self.workers)


def open_stream(listed: ImageList, size: int, workers: int = 0, unreadable: Unreadable | None = None) -> ImageStream:
    """The images of `listed` as squares and views of `size` pixels; views are cut by `workers` processes.

    Raises:
        UserError: there is no image.
    """
    if len(listed) == 0:
        raise UserError(f"no image in {listed.root}")
    replacements = Replacements(unreadable or Unreadable(), listed.files)
    return ImageStream(listed, StreamedImages(listed, size, replacements), replacements, workers)
