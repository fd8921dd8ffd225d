"""From the bytes of an image file to upright RGB, and to the squares that are stored or shown to the network.

The one place that opens images: `open_header` for what a file says of itself, `decode` for its pixels. Both read the
formats of `FORMATS` alone. Pixels are decoded strictly: what Pillow reports as damaged is refused. A file that libjpeg
decodes with a mere warning (bytes overwritten in the middle of a JPEG) is not noticed, since Pillow does not pass the
warning on.
"""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from clop_det.data.jpeg_header import ENOUGH, ordinary_frame
from clop_det.data.orientation import upright, upright_extent
from clop_det.errors import UserError
from clop_det.files import StrPath, open_ordinary

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

# Pillow's names of the formats that are read. Without a list it asks every plugin, and that of EPS starts Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
# How the names of such files end, in lower case; the first is taken where two files have one name.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".jfif", ".jpe", ".dib"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif"),
)
# What Pillow raises for a file that is damaged, no image, or too large.
BROKEN = (
    *(OSError, ValueError, SyntaxError, struct.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),  # the warning, where warnings are errors
)
_open_lock = threading.Lock()
_grey_bits = 16


class UnreadableImage(UserError):
    """An image that cannot be read; the message names it."""


class TooManyPixels(ValueError):
    """An image of more pixels than INPUT.MAX_PIXELS."""


class BeyondGreyBits(ValueError):
    """Grey values above the range that INPUT.GREY_BITS gives."""


def use_decoding(settings: Mapping[str, Any]) -> None:
    """Decode from now on, in this process and those it forks, as INPUT.MAX_PIXELS and INPUT.GREY_BITS say.

    The limit is Pillow's own `Image.MAX_IMAGE_PIXELS`.
    """
    global _grey_bits
    Image.MAX_IMAGE_PIXELS = int(settings["MAX_PIXELS"])
    _grey_bits = int(settings["GREY_BITS"])


def used_decoding() -> dict[str, int | None]:
    """What `use_decoding` was last given, for processes that are not forked."""
    return {"MAX_PIXELS": Image.MAX_IMAGE_PIXELS, "GREY_BITS": _grey_bits}


class CarriesDecoding:
    """What is pickled for another process (one that is not forked) decodes there as it would here."""

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_decoding": used_decoding()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        use_decoding(state.pop("_decoding"))
        vars(self).update(state)


def grey_bits() -> int:
    """Bits of the values in deep grey images: white is 2 ** bits - 1."""
    return _grey_bits


def open_header(file: IO[bytes]) -> Image.Image:
    """The image in `file`, opened but not decoded, of whatever size.

    Raises:
        OSError, ...: not an image of a format that is read (`BROKEN`).
    """
    try:
        return Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        pass
    with _open_lock:  # Pillow checks its limit before it says the size
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def extent_of(path: StrPath) -> tuple[int, int]:
    """Width and height in pixels of the image in a file once EXIF has turned it, by its header (see `upright_extent`).

    Raises:
        UnreadableImage: it has no header of a format that is read.
    """
    try:
        with open_ordinary(path) as file:
            if frame := ordinary_frame(file.read(ENOUGH)):
                return frame.width, frame.height
            file.seek(0)
            with open_header(file) as opened:
                return upright_extent(opened)
    except BROKEN as error:
        raise UnreadableImage(f"cannot read image {path}: {error}. Replace or remove the file.") from error


def oversize(width: int, height: int) -> str:
    """What to say of an image of more pixels than INPUT.MAX_PIXELS; empty: it has no more."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None or width * height <= limit:
        return ""
    return (
        f"{width} x {height} pixels are more than Pillow's limit of {limit}. Set INPUT.MAX_PIXELS {width * height} to"
        f" read it (it takes {3 * width * height / 1e6:.0f} MB in memory), or make it smaller"
    )


def decode(content: bytes, name: str, turn: bool = True) -> Image.Image:
    """The image in `content` as RGB.

    Args:
        content: of the file.
        name: of the image, for errors.
        turn: whether EXIF's orientation is applied.

    Raises:
        UnreadableImage: not an image of a format that is read, a damaged one, one of floating-point numbers, of grey
            values beyond INPUT.GREY_BITS, or of more pixels than INPUT.MAX_PIXELS.
    """
    with refused(name), open_header(io.BytesIO(content)) as opened:
        check_header(opened)
        opened.load()  # here, and not in what reads EXIF: that must not hide what is damaged
        return to_rgb(upright(opened) if turn else opened)


def check_header(opened: Image.Image) -> None:
    """Refuse what an image's header says of it.

    Raises:
        ValueError: more pixels than INPUT.MAX_PIXELS, or floating-point numbers.
    """
    if said := oversize(opened.width, opened.height):
        raise TooManyPixels(said)
    if opened.mode.startswith("F"):
        raise ValueError("it holds floating-point numbers, which have no black and no white")


@contextmanager
def refused(name: str) -> Iterator[None]:
    """What Pillow and this module raise for an image that cannot be read becomes an `UnreadableImage` with its name."""
    try:
        yield
    except BROKEN as error:
        reason = "not an image of a known format" if isinstance(error, UnidentifiedImageError) else error
        named = isinstance(error, TooManyPixels | BeyondGreyBits)
        raise UnreadableImage(
            f"cannot read image {name}: {reason}.{'' if named else ' Replace or remove the file.'}"
        ) from error


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
    """An image of any mode as 8-bit RGB: palettes are looked up, transparency is left out, deep grey is scaled.

    Raises:
        BeyondGreyBits: deep grey with a value above 2 ** INPUT.GREY_BITS - 1.
    """
    if image.mode.startswith("I"):  # deep grey: Pillow would clip at 255 instead of scaling
        values = np.asarray(image).astype(np.int64)
        highest = int(values.max(initial=0))
        if highest >> _grey_bits:
            raise BeyondGreyBits(
                f"a grey value of {highest} is beyond INPUT.GREY_BITS {_grey_bits}. Set INPUT.GREY_BITS"
                f" {highest.bit_length()}, or the bits that the images have"
            )
        image = Image.fromarray((values.clip(0) >> (_grey_bits - 8)).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")
