"""Square uint8 images by number, wherever they come from: what training and probes index."""

from __future__ import annotations

import itertools
import logging
import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from clop_det.engine.device import host_buffer, moved
from clop_det.errors import UserError

Index = int | slice | Tensor
_SHARE_OF_DEVICE = 1 / 8  # of a GPU's free memory that decoded images may take
_COPIED_AT_ONCE = 4096  # images
_log = logging.getLogger(__name__)


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

    Args:
        path: the file.
        shape: (N, 3, S, S).
        reader: the device that the images are read for, by default the CPU: page-locked memory for a GPU.

    Raises:
        IndexError: an index outside [0, N).
        UserError: the file has become shorter.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int], reader: torch.device | None = None) -> None:
        self._path, self._reader = path, reader or torch.device("cpu")
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  (open as long as this object lives)
        self._image_bytes = shape[1] * shape[2] * shape[3]
        self.shape = shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> Tensor:
        numbers = index if isinstance(index, Tensor) else torch.arange(len(self))[index]
        found = self._read(numbers.reshape(-1).numpy())
        return found[0] if numbers.dim() == 0 else found

    def near(self, device: torch.device) -> Images:
        """The same images for a loop on `device`: on a GPU the whole file if it is small beside the free memory."""
        if device.type != "cuda":
            return self
        size = len(self) * self._image_bytes
        if size <= torch.cuda.mem_get_info(device)[0] * _SHARE_OF_DEVICE:
            _log.info("the %d decoded images stay on the GPU (%.1f GB)", len(self), size / 1e9)
            return ResidentImages(self, device)
        return StoredImages(self._path, self.shape, device)

    def _read(self, numbers: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < len(self):
            raise IndexError(f"images {numbers.min()} to {numbers.max()} of {len(self)}")
        pixels = host_buffer((len(numbers), *self.shape[1:]), torch.uint8, self._reader)
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


class ResidentImages:
    """All of `images` copied to `device` once; indices come from the host, images stay on the device."""

    def __init__(self, images: Images, device: torch.device) -> None:
        self.shape = images.shape
        self._pixels = torch.empty(images.shape, dtype=torch.uint8, device=device)
        for start in range(0, len(images), _COPIED_AT_ONCE):
            part = slice(start, start + _COPIED_AT_ONCE)
            self._pixels[part].copy_(images[part])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Index) -> Tensor:
        return self._pixels[moved(index, self._pixels.device) if isinstance(index, Tensor) else index]


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
