"""The embedded real images: scikit-learn's 1,797 handwritten digits, their partition, and how one is drawn.

The source is the test part of the UCI "Optical Recognition of Handwritten Digits" set, 8x8 pixels, 0..16. It is
partitioned once: the first 70 % of each class in file order are the train pool, the rest the test pool. The file is in
order of writers, so most test digits come from hands that the train pool does not hold.

Colours and blending are integer arithmetic, random numbers come from NumPy's frozen `RandomState` stream, resampling is
Pillow's: the same seed gives the same pixels on every machine, but for the rounding of a glyph's turn.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
CLASSES = tuple("0123456789")
SOURCE = "scikit-learn load_digits: UCI Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998), CC BY 4.0"
POOLS = ("train", "test")
DIGIT_CONTRAST = 115  # least difference in luma, of 255, between a whole digit and the ground below it
FRAGMENT_CONTRAST = 20  # the same for a fragment
_TRAIN_SHARE = 0.7
_MASTER = 96  # side of the smooth enlargement that glyphs are cut from
_INK = 96  # coverage from which a pixel counts as ink of the glyph, 0..255


@dataclass(frozen=True)
class Pool:
    """Source digits that one side of the partition may use: their indices by label."""

    by_label: tuple[tuple[int, ...], ...]

    def pick(self, rng: np.random.RandomState, label: int) -> int:
        """Index of a random source digit of one label."""
        members = self.by_label[label]
        return members[rng.randint(len(members))]

    def pick_for_fragment(self, rng: np.random.RandomState) -> int:
        """Index of a random source digit of any label but 1: a piece of a 1 is a smaller 1."""
        return self.pick(rng, (0, 2, 3, 4, 5, 6, 7, 8, 9)[rng.randint(9)])


@functools.lru_cache(maxsize=1)
def source_digits() -> tuple[Pixels, NDArray[np.int64]]:
    """The 1,797 source images (n, 8, 8) uint8, 0..16, and their labels (n,)."""
    from sklearn.datasets import load_digits  # a second of import time, needed only when something is generated

    digits = load_digits()
    return digits.images.astype(np.uint8), digits.target.astype(np.int64)


@functools.lru_cache(maxsize=2)
def digit_pool(pool: str) -> Pool:
    """The source digits of one side of the partition, "train" or "test"; the two share none."""
    if pool not in POOLS:
        raise ValueError(f"pool must be one of {POOLS}, got {pool!r}")
    _, labels = source_digits()
    chosen = []
    for label in range(len(CLASSES)):
        members = np.flatnonzero(labels == label).tolist()
        cut = int(len(members) * _TRAIN_SHARE + 0.5)
        chosen.append(tuple(members[:cut] if pool == "train" else members[cut:]))
    return Pool(tuple(chosen))


def image_rng(seed: int, *names: str | int) -> np.random.RandomState:
    """The random stream of one image: a function of the seed and of the image's own name alone."""
    digest = hashlib.sha256("/".join(str(name) for name in (seed, *names)).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype=">u4").astype(np.uint32))


def uniform(rng: np.random.RandomState, low: float, high: float) -> float:
    """A number between `low` and `high`."""
    return low + (high - low) * float(rng.random_sample())


@functools.cache
def _master(index: int) -> Image.Image:
    """A source digit, padded by one pixel so that its strokes close, smoothly enlarged to grey 0..255."""
    padded = np.zeros((10, 10), dtype=np.uint8)
    padded[1:9, 1:9] = np.minimum(source_digits()[0][index].astype(np.int32) * 16, 255)
    return Image.fromarray(padded).resize((_MASTER, _MASTER), Image.Resampling.BICUBIC)


# Contrast curve from smooth grey to strokes with a soft edge.
_STROKE = np.clip((np.arange(256) - 80) * 255 // 90, 0, 255).astype(np.uint8)


def draw_glyph(index: int, height: int, rng: np.random.RandomState) -> Pixels:
    """Coverage mask (h, w) uint8 of a source digit, slightly turned, sheared and stretched, cut tight to its ink.

    `height` is that of the upright digit in pixels; turning makes the result a little larger or smaller.
    """
    angle = math.radians(uniform(rng, -15, 15))
    shear = uniform(rng, -0.15, 0.15)
    stretch = uniform(rng, 0.85, 1.15)
    step_y = 0.8 * _MASTER / height  # master pixels per drawn pixel; the 8 source rows are 0.8 of the master
    step_x = step_y / stretch
    side = int(height * 1.6) + 2
    cos, sin, half = math.cos(angle), math.sin(angle), side / 2
    a, b = step_x * cos, step_x * (sin + shear)
    d, e = -step_y * sin, step_y * cos
    centre = _MASTER / 2
    matrix = (a, b, centre - a * half - b * half, d, e, centre - d * half - e * half)
    drawn = _master(index).transform((side, side), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    return _tight(_STROKE[np.asarray(drawn)])


def draw_fragment(index: int, height: int, rng: np.random.RandomState) -> Pixels:
    """Coverage mask of a piece of a source digit: a random 30-50 % of its height or width, or of both."""
    glyph = draw_glyph(index, height, rng)
    rows, columns = glyph.shape
    cut = rng.randint(3)
    keep_rows = max(2, int(rows * uniform(rng, 0.3, 0.5))) if cut != 0 else rows
    keep_columns = max(2, int(columns * uniform(rng, 0.3, 0.5))) if cut != 1 else columns
    top = rng.randint(rows - keep_rows + 1) if keep_rows < rows else 0
    left = rng.randint(columns - keep_columns + 1) if keep_columns < columns else 0
    return _tight(glyph[top : top + keep_rows, left : left + keep_columns])


def inked(mask: Pixels) -> NDArray[np.bool_]:
    """The pixels of a coverage mask (h, w) that count as ink."""
    return mask >= _INK


def _tight(mask: Pixels) -> Pixels:
    """Cut a mask to the pixels that count as ink (at least one pixel is left)."""
    ink = inked(mask)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if len(rows) == 0:
        return mask[:1, :1]
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def draw_background(width: int, height: int, rng: np.random.RandomState) -> Pixels:
    """A canvas (height, width, 3): a rather dark colour and its neighbour mixed by clouds or stripes, with grain."""
    first = rng.randint(25, 136, size=3)
    second = np.clip(first + rng.randint(-45, 46, size=3), 0, 255)
    if rng.randint(3) == 0:
        period, angle = uniform(rng, 6, 20), uniform(rng, 0, math.pi)
        x, y = np.arange(width)[None, :], np.arange(height)[:, None]
        steps = np.array([math.cos(angle), math.sin(angle)]) * 512 / period
        wave = (x * int(steps[0]) + y * int(steps[1])) % 512
        mix = np.where(wave < 256, wave, 511 - wave)
    else:
        cells = rng.randint(3, 7)
        clouds = Image.fromarray(rng.randint(0, 256, size=(cells, cells)).astype(np.uint8))
        mix = np.asarray(clouds.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int64)
    canvas = (first * (255 - mix[..., None]) + second * mix[..., None]) // 255
    grain = rng.randint(-6, 7, size=(height, width, 1))
    pixels: Pixels = np.clip(canvas + grain, 0, 255).astype(np.uint8)
    return pixels


def pick_colour(rng: np.random.RandomState, ground: Pixels, contrast: int) -> NDArray[np.int64]:
    """A colour whose luma differs from the mean of `ground` (h, w, 3) by `contrast` of 255 or more, if found."""
    weights = np.array([77, 150, 29])
    luma = int(ground.reshape(-1, 3).mean(0).astype(np.int64) @ weights) // 256
    colour = rng.randint(0, 256, size=3)
    for _ in range(20):
        if abs(int(colour @ weights) // 256 - luma) >= contrast:
            break
        colour = rng.randint(0, 256, size=3)
    return colour.astype(np.int64)


def paste(canvas: Pixels, mask: Pixels, left: int, top: int, rng: np.random.RandomState, contrast: int) -> None:
    """Paint a mask onto the canvas, in place, in a random colour; what lies outside the canvas is cut off."""
    height, width = canvas.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + mask.shape[1], width), min(top + mask.shape[0], height)
    if x0 >= x1 or y0 >= y1:
        return
    ground = canvas[y0:y1, x0:x1]
    coverage = mask[y0 - top : y1 - top, x0 - left : x1 - left, None].astype(np.int64)
    colour = pick_colour(rng, ground, contrast)
    canvas[y0:y1, x0:x1] = (ground * (255 - coverage) + colour * coverage + 127) // 255
