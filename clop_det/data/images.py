"""Square uint8 images by number, wherever they come from: what training and probes index."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from clop_det.errors import UserError

Index = int | slice | Tensor


class Images(Protocol):
    """(N, 3, S, S) uint8 RGB that are read when they are asked for."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, 3, S, S)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Index, /) -> Tensor:
        """Images (n, 3, S, S) of a slice or of indices (n,), or one image (3, S, S); a copy."""


class StoredImages:
    """Images in a file of pixels, read by offset into fresh memory; all processes share the system's cache of the file.

    A memory map would do the same at first sight, but every page that it has touched counts as this process's memory,
    and a kernel may map megabytes around each (measured: 800 KB an image of 12 KB). Reading keeps nothing.

    Raises:
        IndexError: an index outside [0, N).
        UserError: the file has become shorter.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (open as long as this object lives)
        self._image_bytes = shape[1] * shape[2] * shape[3]
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> Tensor:
        numbers = index if isinstance(index, Tensor) else torch.arange(len(self))[index]
        found = self._read(numbers.reshape(-1).numpy())
        return found[0] if numbers.dim() == 0 else found

    def _read(self, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"images {numbers.min()} to {numbers.max()} of {len(self)}")
        pixels = torch.empty((len(numbers), *self.shape[1:]), dtype=torch.uint8)
        memory, length = pixels.numpy().reshape(-1).data, self._image_bytes
        # Neighbours in the file are read at once.
        bounds = [0, *(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]
        for start, end in itertools.pairwise(bounds):
            if start < end:
                self._fill(memory[start * length : end * length], int(numbers[start]) * length)
        return pixels

    def _fill(self, memory: memoryview, offset: int) -> None:
        while memory:
            count = os.preadv(self._file.fileno(), [memory], offset)
            if count == 0:
                raise UserError(f"{self._file.name} has become shorter while it was read; run again to decode it anew")
            memory, offset = memory[count:], offset + count


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
