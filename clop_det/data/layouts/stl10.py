"""STL-10 as its binary archive is (Coates et al. 2011; cs.stanford.edu/~acoates/stl10), with its unlabelled part."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from clop_det.data.decoding import Pixels
from clop_det.data.image_list import ImageList
from clop_det.data.image_sources import ArrayFile
from clop_det.data.layouts.archives import array_list, class_names, extracted
from clop_det.data.layouts.registry import register_layout
from clop_det.errors import UserError

_BYTES = 3 * 96 * 96
# split -> files of its pixels and labels; the archive spells one of them the American way.
_FILES = {
    "train": ("train_X.bin", "train_y.bin"),
    "test": ("test_X.bin", "test_y.bin"),
    "unlabelled": ("unlabeled_X.bin", None),
}


@register_layout("stl10")
def read_stl10(root: Path, split: str) -> ImageList:
    """Splits `train`, `test` and `unlabelled` (so `train+unlabelled` to pretrain on both)."""
    if split not in _FILES:
        raise UserError(f"split {split!r} of {root}: STL-10 has the splits {', '.join(_FILES)}, joined by +")
    folder = extracted(root, ("stl10_binary",), ("class_names.txt",))
    pixels, labels = _FILES[split]
    count = len(load_stl10(folder / pixels))
    numbers = [-1] * count if labels is None else _labels(folder / labels)
    part = ArrayFile(folder / pixels, count, load_stl10)
    return array_list(folder, [(split, part)], numbers, class_names(folder / "class_names.txt"))


def load_stl10(path: Path) -> Pixels:
    """(n, 3, 96, 96) uint8, memory-mapped; the file holds each channel column by column."""
    try:
        size = path.stat().st_size
        if size == 0 or size % _BYTES:
            raise UserError(
                f"{path} has {size} bytes, no multiple of {_BYTES}; it is damaged. Download the archive again."
            )
        pixels: Pixels = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)
        return pixels
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}. Download the archive again.") from error


def _labels(path: Path) -> list[int]:
    try:
        numbers = np.fromfile(path, dtype=np.uint8).astype(np.int64)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}. Download the archive again.") from error
    if len(numbers) and numbers.min() < 1:  # they count from 1
        raise UserError(f"{path} holds a label 0; STL-10's labels count from 1. Download the archive again.")
    found: list[int] = (numbers - 1).tolist()
    return found
