"""Square uint8 images by number, wherever they come from: what training and probes index."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Index = int | slice | Tensor
_RESIDENT = 1 << 27  # bytes of a mapped file that may stay in this process's memory before they are let go
_FAULT = 1 << 17  # bytes that one access may map around what it reads


class Images(Protocol):
    """(N, 3, S, S) uint8 RGB that are read when they are asked for."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, 3, S, S)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Index, /) -> Tensor:
        """Images (n, 3, S, S) of a slice or of indices (n,), or one image (3, S, S); a copy."""


class MappedImages:
    """Images in a memory-mapped file, whose pages all processes share.

    What has been read would stay mapped, and count as this process's memory, until the whole file did; so it is let go
    again every 128 MiB. It stays in the system's cache as long as there is room.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        # Copy-on-write, since a tensor needs writable memory; nothing ever writes.
        self._array = np.memmap(path, dtype=np.uint8, mode="c", shape=shape)
        self._tensor = torch.from_numpy(self._array)
        self._image_bytes = self._tensor[0].numel()
        self._touched = 0
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> Tensor:
        picked = self._tensor[index]
        picked = picked if isinstance(index, Tensor) else picked.clone()
        images = picked.numel() // self._image_bytes
        self._touched += picked.numel() + (images * _FAULT if isinstance(index, Tensor) else _FAULT)
        if self._touched > _RESIDENT:
            self._let_go()
        return picked

    def _let_go(self) -> None:
        self._touched = 0
        mapping = self._array._mmap  # type: ignore[attr-defined]
        if hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)


class Subset:
    """Some of `images`, by their indices (n,); nothing is read before it is asked for."""

    def __init__(self, images: Images, indices: Tensor) -> None:
        self._images, self._indices = images, indices
        self.shape = (len(indices), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: Index) -> Tensor:
        chosen = self._indices[index]
        return self._images[int(chosen) if chosen.dim() == 0 else chosen]
