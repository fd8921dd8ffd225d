"""Which images make up batch i: a pure function, so that a resumed run sees what the uninterrupted one would have."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.engine.seeding import generator
from clop_det.errors import UserError


class BatchOrder:
    """`order(iteration)` is `batch_indices(n, batch_size, iteration, seed)`, with the epoch's permutation kept.

    Raises:
        UserError: see `batch_indices`.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        if batch_size > n:
            raise UserError(
                f"batch size {batch_size} exceeds the data set's {n} images; lower SOLVER.IMS_PER_BATCH or add images"
            )
        self.batches_per_epoch = n // batch_size
        self._n, self._batch_size, self._seed = n, batch_size, seed
        self._epoch = -1
        self._permutation = torch.empty(0, dtype=torch.int64)

    def __call__(self, iteration: int) -> Tensor:
        """Indices (batch_size,) int64 of the batch of `iteration` >= 0."""
        if iteration < 0:
            raise ValueError(f"iteration must be >= 0, got {iteration}")
        epoch, place = divmod(iteration, self.batches_per_epoch)
        if epoch != self._epoch:
            self._permutation = torch.randperm(self._n, generator=generator(self._seed, "batch order", epoch))
            self._epoch = epoch
        return self._permutation[place * self._batch_size : (place + 1) * self._batch_size]


def batch_indices(n: int, batch_size: int, iteration: int, seed: int) -> Tensor:
    """Indices (batch_size,) int64 of the images of the global batch of one iteration.

    Every epoch is a fresh permutation of the n images, derived from (seed, epoch); the rest that does not fill a batch
    is dropped. Within an epoch no image comes twice.

    Raises:
        UserError: batch_size < 1 or batch_size > n.
    """
    return BatchOrder(n, batch_size, seed)(iteration)
