"""Frozen features of images, read and encoded batch by batch, by all ranks together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from detectron2.utils import comm
from torch import Tensor, distributed

from clop_det.engine.stop import left_together
from clop_det.probes.base import ProbeData
from clop_det.probes.limits import check_bank


class ImageSequence(Protocol):
    """Images (N, 3, H, W) that are read batch by batch: a tensor, or anything that can be sliced into tensors."""

    @property
    def shape(self) -> Sequence[int]:
        """(N, 3, H, W)."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


Labelled = tuple[ImageSequence, Tensor]  # images (N, 3, H, W) uint8 RGB, labels (N,) int64 >= 0


def encode_images(
    encode: Callable[[Tensor], Tensor],
    images: ImageSequence,
    batch_size: int = 256,
    check: Callable[[Tensor], None] = lambda features: None,
) -> Tensor:
    """Features (N, D) float32 of `images` (N, 3, H, W), read and encoded `batch_size` at a time, in order.

    Of several ranks each takes every so many-th batch, so a batch holds the same images however many ranks there are.
    They all call this, with networks of one state; the first has the features, the others get (0, D).

    Args:
        encode: images (n, 3, H, W) uint8 -> features (n, D). It may raise StopRequested on one rank, which then ends
            this on all.
        images: the same on every rank.
        batch_size: images encoded at once.
        check: given the features of the first batch of this rank; may raise.

    Raises:
        ValueError: no image, or `encode` does not return one row per image.
    """
    if len(images) < 1:
        raise ValueError(f"images must hold at least one image, but their shape is {tuple(images.shape)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, but is {batch_size}")
    ranks, rank = comm.get_world_size(), comm.get_rank()
    starts = range(0, len(images), batch_size)
    features: list[Tensor] = []
    for number in range(0, len(starts), ranks):
        own = starts[min(number + rank, len(starts) - 1)]  # in the last turn some encode what another one does, too
        with left_together():
            encoded = _encoded(encode, images[own : own + batch_size])
        if not number:
            check(encoded)
        features += [encoded] if ranks == 1 else _gathered(encoded, batch_size)[: len(starts) - number]
    if rank:
        return encoded[:0]
    return torch.cat(features)[: len(images)]


def _encoded(encode: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    encoded = encode(batch)
    if encoded.ndim != 2 or len(encoded) != len(batch):
        raise ValueError(
            f"encode must return ({len(batch)}, D) for {len(batch)} images, but returned {tuple(encoded.shape)}"
        )
    return encoded.detach().float()


def _gathered(rows: Tensor, most: int) -> list[Tensor]:
    """The (most, D) rows of every rank, filled up with zeros, on the first rank; nothing on the others."""
    padded = rows.new_zeros((most, rows.shape[1]))
    padded[: len(rows)] = rows
    received = [torch.empty_like(padded) for _ in range(comm.get_world_size())] if comm.get_rank() == 0 else None
    distributed.gather(padded, received, dst=0)
    return received or []


def encode_sets(
    encode: Callable[[Tensor], Tensor],
    bank: Labelled,
    queries: Labelled,
    batch_size: int = 256,
    project: Callable[[Tensor], Tensor] | None = None,
) -> ProbeData:
    """What the probes see of a network: the features of two labelled sets of images.

    Args:
        encode: images (n, 3, H, W) uint8 -> features (n, D); normalisation, evaluation mode, no_grad and the device
            are its affair.
        bank: the images to learn from.
        queries: the images to ask about.
        batch_size: images encoded at once.
        project: features (N, D) -> embeddings (N, d), where the network has a projector.

    Raises:
        ValueError: see `encode_images`.
        UserError: a bank that does not fit into the memory (see `check_bank`).
    """
    classes = int(bank[1].max()) + 1

    def check(rows: Tensor) -> None:
        check_bank(len(bank[0]), rows.shape[1], classes, rows.device)

    features = encode_images(encode, bank[0], batch_size, check)
    asked = encode_images(encode, queries[0], batch_size)
    embeddings = project(features) if project and comm.is_main_process() else None
    return ProbeData(features, bank[1], asked, queries[1], embeddings)
