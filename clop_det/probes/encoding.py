"""Frozen features of images, read and encoded batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from clop_det.probes.base import ProbeData


class ImageSequence(Protocol):
    """Images (N, 3, H, W) that are read batch by batch: a tensor, or anything that can be sliced into tensors."""

    @property
    def shape(self) -> Sequence[int]:
        """(N, 3, H, W)."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


Labelled = tuple[ImageSequence, Tensor]  # images (N, 3, H, W) uint8 RGB, labels (N,) int64 >= 0


def encode_images(encode: Callable[[Tensor], Tensor], images: ImageSequence, batch_size: int = 256) -> Tensor:
    """Features (N, D) float32 of `images` (N, 3, H, W), read and encoded `batch_size` at a time, in order.

    Raises:
        ValueError: no image, or `encode` does not return one row per image.
    """
    if len(images) < 1:
        raise ValueError(f"images must hold at least one image, but their shape is {tuple(images.shape)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, but is {batch_size}")
    features = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        encoded = encode(batch)
        if encoded.ndim != 2 or len(encoded) != len(batch):
            raise ValueError(
                f"encode must return ({len(batch)}, D) for {len(batch)} images, but returned {tuple(encoded.shape)}"
            )
        features.append(encoded.detach().float())
    return torch.cat(features)


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
    """
    features = encode_images(encode, bank[0], batch_size)
    asked = encode_images(encode, queries[0], batch_size)
    return ProbeData(features, bank[1], asked, queries[1], project(features) if project else None)
