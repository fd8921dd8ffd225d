"""What a step sees: the views of batch i with the crops that they came from, and the plan that they follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from clop_det.data.augment import ViewAugmentation
from clop_det.data.batches import BatchOrder
from clop_det.data.images import Images
from clop_det.data.view_parameters import ViewParameters, draw_parameters
from clop_det.engine.device import moved
from clop_det.engine.seeding import derive_seed, generator
from clop_det.errors import UserError

STANDARD = "standard"


@dataclass(frozen=True)
class ViewGroup:
    """Views of one size that a method asks for.

    Attributes:
        kinds: the kind of each of its V views; "standard" is the augmentation that AUGMENT.* describes.
        size: side in pixels; None: CLASSIFICATION.IMAGE_SIZE.
    """

    kinds: tuple[str, ...] = (STANDARD, STANDARD)
    size: int | None = None


TWO_VIEWS = (ViewGroup(),)


@dataclass(frozen=True)
class Views:
    """V views of each of n images, all of one size.

    Attributes:
        pixels: (V, n, 3, S, S) float32, normalised.
        boxes: (V, n, 4) float32: the crop of each view as x0, y0, x1, y1 in pixels of the image that it was cut from.
            That is the stored square of IMAGE_SIZE pixels where images are stored, and the whole upright image where
            they stream. Two views of one image share these coordinates.
        flips: (V, n) bool: whether the crop was mirrored from left to right after it was cut.
        kinds: the kind of each of the V views.
        further: the views of the other groups that the method asked for, of other sizes.
    """

    pixels: Tensor
    boxes: Tensor
    flips: Tensor
    kinds: tuple[str, ...]
    further: tuple[Views, ...] = ()

    def __len__(self) -> int:
        return self.pixels.shape[1]

    @property
    def stacked(self) -> Tensor:
        """(V n, 3, S, S), all first views, then all second views, ...; the same memory as `pixels`."""
        return self.pixels.flatten(0, 1)


def only_group(needed: tuple[ViewGroup, ...], size: int, method: str) -> ViewGroup:
    """The one group of views that the augmentation can make for a method.

    Raises:
        UserError: the method asks for another kind, another size than `size`, or several groups.
    """
    first = needed[0]
    if len(needed) > 1 or set(first.kinds) != {STANDARD} or first.size not in (None, size):
        wanted = " and ".join(f"{', '.join(group.kinds)} of {group.size or size} px" for group in needed)
        raise UserError(
            f"METHOD.NAME {method} needs views of other kinds or sizes ({wanted}). The augmentation makes any number of"
            f" {STANDARD} views of CLASSIFICATION.IMAGE_SIZE, {size} px; choose another method."
        )
    return first


@dataclass(frozen=True)
class ViewPlan:
    """Which images and which views make up batch i of one process: a function of (seed, iteration). Picklable.

    Attributes:
        augment: the augmentation.
        seed: of the run.
        images: N, of the data set.
        batch: the global batch, in images.
        rank, world_size: this process's place; it takes the rank-th part of the batch.
        group: the views of each image.
    """

    augment: ViewAugmentation
    seed: int
    images: int
    batch: int
    rank: int = 0
    world_size: int = 1
    group: ViewGroup = TWO_VIEWS[0]

    @cached_property
    def _order(self) -> BatchOrder:
        return BatchOrder(self.images, self.batch, derive_seed(self.seed, "order"))

    @property
    def local(self) -> int:
        """n, the images of this process's part of a batch."""
        return self.batch // self.world_size

    @property
    def part(self) -> slice:
        """This process's places in the global batch."""
        return slice(self.rank * self.local, (self.rank + 1) * self.local)

    def indices(self, iteration: int) -> Tensor:
        """Indices (n,) of this process's images."""
        return self._order(iteration)[self.part]

    def parameters(self, iteration: int, aspect: Tensor | None = None) -> ViewParameters:
        """Parameters of this process's views; `aspect` (n,) is its images' width by height, by default 1.

        Drawn for the global batch, then cut: the views of an image do not depend on the number of processes.
        """
        everywhere = torch.ones(self.batch)
        if aspect is not None:
            everywhere[self.part] = aspect
        draws = generator(self.seed, "augment", iteration)
        return draw_parameters(self.augment.settings, self.batch, draws, everywhere, len(self.group.kinds))[self.part]

    def seen(self, pixels: Tensor, boxes: Tensor, parameters: ViewParameters) -> Views:
        """The views of this process: `pixels` (V n, 3, S, S), `boxes` (V, n, 4), and the parameters of both."""
        kinds = self.group.kinds
        return Views(pixels.view(len(kinds), -1, *pixels.shape[1:]), boxes, parameters.flip.t() > 0, kinds)


@dataclass(frozen=True)
class ReadBatch:
    """A batch of one process before the device computes anything of it.

    Attributes:
        pixels: (n, 3, H, W) uint8 RGB, or crops (V, n, 3, S, S) of such images.
        parameters: of the views of these n images.
        boxes: (V, n, 4) float32 of the crops that `pixels` holds, in pixels of their images; None for whole images.
        replaced: index of each unreadable image in it -> index of the image that stands in.
    """

    pixels: Tensor
    parameters: ViewParameters
    boxes: Tensor | None = None
    replaced: Mapping[int, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> ReadBatch:
        """The same on `device`; see `moved`."""
        boxes = None if self.boxes is None else moved(self.boxes, device)
        return ReadBatch(moved(self.pixels, device), self.parameters.to(device), boxes, self.replaced)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors in it."""
        return [self.pixels, self.parameters.values, *([] if self.boxes is None else [self.boxes])]


class BatchViews(ABC):
    """The views of batch i: `read` takes it from the disk, `make` computes the views; a call does both.

    Args:
        plan: which images and which views.
        device: where the views are computed.
    """

    def __init__(self, plan: ViewPlan, device: torch.device) -> None:
        self.plan, self.device = plan, device

    def begin(self, iteration: int) -> None:  # noqa: B027 (few have something to do here)
        """Called on the main thread before another batch than the next one is read."""

    @abstractmethod
    def read(self, iteration: int) -> ReadBatch:
        """Batch `iteration`, on the host or on the device; any thread may call it, one at a time.

        Raises:
            UserError: an image cannot be read.
        """

    @abstractmethod
    def make(self, batch: ReadBatch) -> Views:
        """The views of a batch that lies on the device.

        Raises:
            UserError: more images cannot be read than CLASSIFICATION.MAX_UNREADABLE allows.
        """

    def __call__(self, iteration: int) -> Views:
        """The views of batch `iteration`, on the device; raises as `read` and `make`."""
        self.begin(iteration)
        return self.make(self.read(iteration).to(self.device))


class StoredViews(BatchViews):
    """The views of batch i, cut from `images` on `device`; for the rest see `BatchViews`."""

    def __init__(self, images: Images, plan: ViewPlan, device: torch.device) -> None:
        super().__init__(plan, device)
        self._images = images

    def read(self, iteration: int) -> ReadBatch:
        return ReadBatch(self._images[self.plan.indices(iteration)], self.plan.parameters(iteration))

    def make(self, batch: ReadBatch) -> Views:
        images, parameters = batch.pixels, batch.parameters
        start, extent = parameters.boxes.transpose(0, 1).mul(images.shape[-1]).chunk(2, dim=-1)
        boxes = torch.cat([start, start + extent], dim=-1)
        return self.plan.seen(self.plan.augment.apply(images, parameters), boxes, parameters)
