"""Which images make up batch i: a function of (seed, i), whatever the number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from clop_det.engine.seeding import generator


def shuffled_forever(size: int, seed: int) -> Iterator[int]:
    """Indices 0..size-1 in a new seeded order each epoch, without end."""
    epoch = 0
    while True:
        yield from torch.randperm(size, generator=generator(seed, "order", epoch)).tolist()
        epoch += 1


class BatchSchedule:
    """Global batches of indices, in the order of the iterations.

    With grouping, an image waits in the bucket of its orientation until the bucket holds a batch, as in Detectron2, so
    that landscape and portrait are not padded to one another. The state of the buckets at iteration i follows from the
    stream alone, so resuming replays the stream (microseconds an image) instead of storing anything.

    Args:
        wide: per image, whether it is wider than high.
        batch_size: images in a global batch, over all processes.
        seed: of the stream.
        grouping: whether to keep orientations apart.
    """

    def __init__(self, wide: Sequence[bool], batch_size: int, seed: int, *, grouping: bool) -> None:
        if not wide or batch_size < 1:
            raise ValueError(f"a schedule needs images and a batch size >= 1, got {len(wide)} and {batch_size}")
        self._group = [int(flag) if grouping else 0 for flag in wide]
        self._batch_size = batch_size
        self._seed = seed

    def starting_at(self, iteration: int) -> Iterator[tuple[int, list[int]]]:
        """(i, indices of batch i) for i = `iteration`, `iteration` + 1, ..., without end."""
        buckets: tuple[list[int], list[int]] = ([], [])
        current = 0
        for index in shuffled_forever(len(self._group), self._seed):
            bucket = buckets[self._group[index]]
            bucket.append(index)
            if len(bucket) == self._batch_size:
                if current >= iteration:
                    yield current, bucket[:]
                bucket.clear()
                current += 1
