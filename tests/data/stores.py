"""Images of several shapes and formats for tests of the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from clop_det.data.decoding import centre_square
from clop_det.data.layouts import ImageList, read_images


def decoded(listed: ImageList, index: int, size: int) -> np.ndarray:  # type: ignore[type-arg]
    return centre_square(listed.source.image(index), size)


def write_images(root: Path, count: int = 6) -> ImageList:
    """Photos of several shapes, modes and formats, in two classes."""
    rng = np.random.default_rng(0)
    for i in range(count):
        height, width = 20 + 7 * i, 61 - 5 * i
        pixels = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((10, 10, 1))).astype(np.uint8)[:height, :width]
        folder = root / "train" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / (f"{i}.png" if i % 3 else f"{i}.jpg"))
    return read_images("folder", root, "train")
