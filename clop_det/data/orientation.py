"""Which way up an image is, by EXIF: one rule for what is decoded, what is measured and what is shown."""

from __future__ import annotations

import numpy as np
from PIL import Image

_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """EXIF's orientation of `image`, 1 to 8; 1 (upright) if it has none, or none that is a number from 1 to 8."""
    try:
        found = image.getexif().get(_TAG)
        return int(found) if found in _TURNS else 1
    except Exception:  # damaged EXIF turns nothing, and Pillow does not say what it may raise
        return 1


def upright(image: Image.Image) -> Image.Image:
    """`image` turned as EXIF says, with the same pixels as Pillow's `exif_transpose`.

    Pillow's also writes EXIF anew without the orientation, and fails where another tag is odd.

    Raises:
        OSError, ...: the pixels cannot be decoded (`BROKEN` in `decoding.py`).
    """
    image.load()  # first: Pillow turns a TIFF itself while it loads
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def turned(pixels: np.ndarray, number: int) -> np.ndarray:  # type: ignore[type-arg]
    """`pixels` (H, W, C) of a file turned as the orientation `number` says, as `upright` would; a view of them."""
    pixels = pixels.swapaxes(0, 1) if number >= 5 else pixels
    from_right, from_below = mirrored(number)
    return pixels[:: -1 if from_below else 1, :: -1 if from_right else 1]


def mirrored(number: int) -> tuple[bool, bool]:
    """Whether x and y of the upright image count from the end of a side of the file, under the orientation `number`."""
    return number in (2, 3, 6, 7), number in (3, 4, 7, 8)


def upright_extent(image: Image.Image) -> tuple[int, int]:
    """(width, height) that `upright(image)` will have, as the header of an image that has just been opened says.

    Wrong for a PNG whose EXIF lies behind its pixels: that would have to be decoded.
    """
    width, height = image.size
    if image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info):  # Pillow turns a TIFF's itself
        return width, height
    return (height, width) if orientation(image) >= 5 else (width, height)
