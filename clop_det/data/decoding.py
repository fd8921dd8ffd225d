"""From the bytes of an image file to upright RGB, and to the squares that are stored or shown to the network."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image, UnidentifiedImageError

from clop_det.data.orientation import upright
from clop_det.errors import UserError

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

# What Pillow raises for a file that is damaged, no image, or too large.
BROKEN = (
    *(OSError, ValueError, SyntaxError, struct.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),  # the warning, where warnings are errors
)


class UnreadableImage(UserError):
    """An image that cannot be read; the message names it."""


def decode(content: bytes, name: str) -> Image.Image:
    """The image in `content`, turned upright by its EXIF tag, as RGB.

    Raises:
        UnreadableImage: not an image, a damaged one, one of floating-point numbers, or one of more pixels than Pillow
            holds to be harmless; the message calls it `name`.
    """
    try:
        with Image.open(io.BytesIO(content)) as opened:
            limit = Image.MAX_IMAGE_PIXELS
            if limit is not None and opened.width * opened.height > limit:
                raise Image.DecompressionBombError(
                    f"{opened.width} x {opened.height} pixels are more than Pillow's limit of {limit}"
                )
            if opened.mode.startswith("F"):
                raise ValueError("it holds floating-point numbers, which have no black and no white")
            return to_rgb(upright(opened))
    except BROKEN as error:
        reason = "not an image of a known format" if isinstance(error, UnidentifiedImageError) else error
        raise UnreadableImage(f"cannot read image {name}: {reason}. Replace or remove the file.") from error


def centre_square(image: Image.Image, size: int) -> Pixels:
    """(3, size, size): the shorter side resized (antialiased bilinear), then the central square.

    The pixels of torchvision's `Resize(size)` and `CenterCrop(size)`.
    """
    width, height = image.size
    short = min(width, height)
    if short != size:
        width, height = (size if side == short else int(size * side / short) for side in (width, height))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    pixels = np.asarray(image)[top : top + size, left : left + size]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def resized_box(image: Image.Image, box: tuple[float, float, float, float], size: int) -> Pixels:
    """(3, size, size): a box of the image, resized (antialiased bilinear).

    Args:
        image: RGB.
        box: left, top, width and height as shares of the image's width and height; rounded to whole pixels, so that
            the result is that of torchvision's `resized_crop`.
        size: side of the result in pixels.
    """
    cut = image.crop(whole_pixels(box, image.width, image.height))
    if cut.size != (size, size):
        cut = cut.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(cut).transpose(2, 0, 1))


def whole_pixels(box: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom in pixels of a box that `resized_box` is given for an image of this size."""
    left, across = _whole_pixels(box[0], box[2], width)
    top, down = _whole_pixels(box[1], box[3], height)
    return left, top, left + across, top + down


def _whole_pixels(start: float, extent: float, length: int) -> tuple[int, int]:
    pixels = min(max(1, round(extent * length)), length)
    return min(max(0, round(start * length)), length - pixels), pixels


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB: palettes are looked up, transparency is left out, deep grey is scaled."""
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    return image.convert("RGB")
