"""The views of batch i: cut on the device from stored images, or cut by worker processes from images that stream."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from clop_det.data.augment import TwoViewAugmentation
from clop_det.data.batches import BatchOrder
from clop_det.data.images import Images
from clop_det.data.view_parameters import ViewParameters, draw_parameters
from clop_det.engine.seeding import derive_seed, generator


@dataclass(frozen=True)
class ViewPlan:
    """Which images and which views make up batch i of one process: a function of (seed, iteration). Picklable.

    Attributes:
        augment: the augmentation.
        seed: of the run.
        images: N, of the data set.
        batch: the global batch, in images.
        rank, world_size: this process's place; it takes the rank-th part of the batch.
    """

    augment: TwoViewAugmentation
    seed: int
    images: int
    batch: int
    rank: int = 0
    world_size: int = 1

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
        draws = generator(self.seed, "augment", iteration)
        return draw_parameters(self.augment.settings, self.batch, draws, everywhere)[self.part]


class StoredViews:
    """Views (2n,3,S,S) of batch i, cut from `images` (indexed on the host) on `device`."""

    def __init__(self, images: Images, plan: ViewPlan, device: torch.device) -> None:
        self._images, self._plan, self._device = images, plan, device

    def __call__(self, iteration: int) -> Tensor:
        images = self._images[self._plan.indices(iteration)].to(self._device, non_blocking=True)
        return self._plan.augment.apply(images, self._plan.parameters(iteration).to(self._device))
