"""What a step sees: the views of batch i with the crops that they came from, and the plan that they follow."""

from __future__ import annotations

from dataclasses import dataclass
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
    """

    kinds: tuple[str, ...] = (STANDARD, STANDARD)
    size: int | None = None
    crop_scale: tuple[float, float] | None = None


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
    def part(self) -> slice:
        """This process's places in the global batch."""
        local = self.batch // self.world_size
        return slice(self.rank * local, (self.rank + 1) * local)

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
        kinds = self.group.kinds
        drawn = {
            kind: draw_parameters(
                self.augment.settings.weak() if kind == WEAK else self.augment.settings,
                self.batch,
                generator(self.seed, self.draws, iteration),
                everywhere,
                len(kinds),
            ).values
            for kind in dict.fromkeys(kinds)
        }
        return ViewParameters(torch.stack([drawn[kind][:, view] for view, kind in enumerate(kinds)], 1))[self.part]

    def seen(self, pixels: Tensor, boxes: Tensor, parameters: ViewParameters, further: tuple[Views, ...] = ()) -> Views:
        """The views of this process: `pixels` (V n, 3, S, S), `boxes` (V, n, 4), and the parameters of both."""
        kinds = self.group.kinds
        return Views(pixels.view(len(kinds), -1, *pixels.shape[1:]), boxes, parameters.flip.t() > 0, kinds, further)


class StoredViews:
    """The views of batch i, cut from `images` (indexed on the host) on `device`."""

    def __init__(self, images: Images, plan: ViewPlan, device: torch.device) -> None:
        self._images, self._plan, self._device = images, plan, device

    def __call__(self, iteration: int) -> Views:
        images = moved(self._images[self._plan.indices(iteration)], self._device)
        return self._cut(self._plan, images, iteration)

    def _cut(self, plan: ViewPlan, images: Tensor, iteration: int) -> Views:
        parameters = plan.parameters(iteration).to(self._device)
        start, extent = parameters.boxes.transpose(0, 1).mul(images.shape[-1]).chunk(2, dim=-1)
        boxes = torch.cat([start, start + extent], dim=-1)
        further = tuple(self._cut(other, images, iteration) for other in plan.further)
        return plan.seen(plan.augment.apply(images, parameters), boxes, parameters, further)
