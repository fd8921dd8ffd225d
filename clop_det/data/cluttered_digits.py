"""Cluttered digits: one whole digit an image among fragments of others, as a folder of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clop_det.data.digits import (
    CLASSES,
    DIGIT_CONTRAST,
    FRAGMENT_CONTRAST,
    SOURCE,
    Pixels,
    digit_pool,
    draw_background,
    draw_fragment,
    draw_glyph,
    image_rng,
    paste,
    uniform,
)
from clop_det.files import write_json

# The split of the images -> the pool of source digits that they are made of.
SPLIT_POOLS = {"train": "train", "val": "test"}


def draw_cluttered(split: str, index: int, size: int, seed: int) -> tuple[Pixels, int, tuple[int, ...]]:
    """Image `index` of a split.

    Returns:
        pixels (size, size, 3); index of the whole source digit, whose label is `index % 10`; indices of the fragments'.
    """
    rng = image_rng(seed, "cluttered", split, index)
    pool = digit_pool(SPLIT_POOLS[split])
    canvas = draw_background(size, size, rng)
    digit = pool.pick(rng, index % len(CLASSES))
    glyph = draw_glyph(digit, int(size * uniform(rng, 0.75, 0.95)), rng)
    left, top = (_place(size, extent, rng) for extent in (glyph.shape[1], glyph.shape[0]))
    fragments = []
    for _ in range(rng.randint(1, 4)):
        fragments.append(pool.pick_for_fragment(rng))
        piece = draw_fragment(fragments[-1], int(size * uniform(rng, 0.4, 0.7)), rng)
        x, y = (rng.randint(-extent // 2, size - extent // 2) for extent in (piece.shape[1], piece.shape[0]))
        paste(canvas, piece, x, y, rng, FRAGMENT_CONTRAST)
    paste(canvas, glyph, left, top, rng, DIGIT_CONTRAST)
    return canvas, digit, tuple(fragments)


def _place(size: int, extent: int, rng: np.random.RandomState) -> int:
    """Where a glyph starts: anywhere inside the image, centred if it is larger."""
    room = size - extent
    return rng.randint(room + 1) if room > 0 else room // 2


def write_cluttered(folder: Path, *, train: int, val: int, size: int, seed: int) -> None:
    """Write `train/<digit>/*.png`, `val/<digit>/*.png` and `manifest.json` (the source digits of every image)."""
    manifest: dict[str, dict[str, Any]] = {}
    for split, count in (("train", train), ("val", val)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels, digit, fragments = draw_cluttered(split, index, size, seed)
            file = f"{split}/{CLASSES[index % len(CLASSES)]}/{index:06d}.png"
            Image.fromarray(pixels).save(folder / file, compress_level=1)
            manifest[file] = {"split": split, "digits": [digit], "fragments": list(fragments)}
    write_json(folder / "manifest.json", {"source": SOURCE, "images": manifest})
