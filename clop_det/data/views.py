"""What a step sees: the views of batch i with the crops that they came from, and the plan that they follow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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

STANDARD, WEAK = "standard", "weak"
KINDS = (STANDARD, WEAK)


@dataclass(frozen=True)
class ViewGroup:
    """Views of one size that a method asks for.

    Attributes:
        kinds: the kind of each of its V views; "standard" is the augmentation that AUGMENT.* describes, "weak" a crop
            of AUGMENT.WEAK_CROP_SCALE and a flip.
        size: side in pixels; None: CLASSIFICATION.IMAGE_SIZE.
        crop_scale: area of the standard crops as shares of the image, (low, high); None: AUGMENT.CROP_SCALE.
        size_key: the config key that says the size, for messages.
    """

    kinds: tuple[str, ...] = (STANDARD, STANDARD)
    size: int | None = None
    crop_scale: tuple[float, float] | None = None
    size_key: str = "the size of its views"


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


def check_groups(needed: tuple[ViewGroup, ...], method: str) -> None:
    """Refuse views of a kind that the augmentation does not make; UserError."""
    for group in needed:
        unknown = sorted(set(group.kinds) - set(KINDS))
        if unknown or not group.kinds:
            raise UserError(
                f"METHOD.NAME {method} needs views of the kind {', '.join(unknown) or '(none)'}. The augmentation makes"
                f" any number of {' and '.join(KINDS)} views; choose another method."
            )


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
        further: plans of the other groups of views of the same images.
        draws: name of the random numbers of this group.
    """

    augment: ViewAugmentation
    seed: int
    images: int
    batch: int
    rank: int = 0
    world_size: int = 1
    group: ViewGroup = TWO_VIEWS[0]
    further: tuple[ViewPlan, ...] = ()
    draws: str = "augment"

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

    @property
    def groups(self) -> tuple[ViewPlan, ...]:
        """The plans of all groups of views, this one first."""
        return (self, *self.further)

    def indices(self, iteration: int) -> Tensor:
        """Indices (n,) of this process's images."""
        return self._order(iteration)[self.part]

    def parameters(self, iteration: int, aspect: Tensor | None = None) -> ViewParameters:
        """Parameters of this process's views; `aspect` (n,) is its images' width by height, by default 1.

        The generator draws for the global batch: the views of an image do not depend on the number of processes.
        """
        kinds = self.group.kinds
        drawn = {
            kind: draw_parameters(
                self.augment.settings.weak() if kind == WEAK else self.augment.settings,
                self.batch,
                generator(self.seed, self.draws, iteration),
                aspect,
                len(kinds),
                self.part,
            ).values
            for kind in dict.fromkeys(kinds)
        }
        return ViewParameters(torch.stack([drawn[kind][:, view] for view, kind in enumerate(kinds)], 1))

    def seen(self, pixels: Tensor, boxes: Tensor, parameters: ViewParameters) -> Views:
        """The views of this process: `pixels` (V n, 3, S, S), `boxes` (V, n, 4), and the parameters of both."""
        kinds = self.group.kinds
        return Views(pixels.view(len(kinds), -1, *pixels.shape[1:]), boxes, parameters.flip.t() > 0, kinds)


@dataclass(frozen=True)
class ReadBatch:
    """A batch of one process before the device computes anything of it.

    Attributes:
        pixels: one tensor (n, 3, H, W) uint8 RGB, or crops (V, n, 3, S, S) of such images for each group of views.
        parameters: of the views of these n images, for each group.
        boxes: (V, n, 4) float32 of the crops that `pixels` holds, in pixels of their images; () for whole images.
        replaced: index of each unreadable image in it -> index of the image that stands in.
    """

    pixels: tuple[Tensor, ...]
    parameters: tuple[ViewParameters, ...]
    boxes: tuple[Tensor, ...] = ()
    replaced: Mapping[int, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> ReadBatch:
        """The same on `device`; see `moved`."""
        pixels, boxes = (tuple(moved(tensor, device) for tensor in part) for part in (self.pixels, self.boxes))
        return ReadBatch(pixels, tuple(part.to(device) for part in self.parameters), boxes, self.replaced)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors in it."""
        return [*self.pixels, *(part.values for part in self.parameters), *self.boxes]


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
        parameters = tuple(plan.parameters(iteration) for plan in self.plan.groups)
        return ReadBatch((self._images[self.plan.indices(iteration)],), parameters)

    def make(self, batch: ReadBatch) -> Views:
        (images,) = batch.pixels
        first, *further = (_cut(*group, images) for group in zip(self.plan.groups, batch.parameters, strict=True))
        return replace(first, further=tuple(further))


def _cut(plan: ViewPlan, parameters: ViewParameters, images: Tensor) -> Views:
    """The views of one group, of whole images."""
    start, extent = parameters.boxes.transpose(0, 1).mul(images.shape[-1]).chunk(2, dim=-1)
    boxes = torch.cat([start, start + extent], dim=-1)
    return plan.seen(plan.augment.apply(images, parameters), boxes, parameters)
