"""Crops of images that stream: exact ones, or fast ones, of JPEGs that are decoded at a fraction of their size.

libjpeg can decode a JPEG at 1/2, 1/4 or 1/8 of its size for less work, since the pixels are stored as frequencies of
blocks of 8 x 8. That fraction is taken where every crop still has at least as many pixels as its view: it depends on
the crops' boxes and the image's size alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from clop_det.data import turbo
from clop_det.data.decoding import (
    Pixels,
    check_header,
    decode,
    open_header,
    oversize,
    refused,
    resized_box,
    to_rgb,
    whole_pixels,
)
from clop_det.data.jpeg_header import ordinary_frame
from clop_det.data.orientation import mirrored, orientation, turned, upright_extent

Share = tuple[float, float, float, float]  # left, top, width and height as shares of an image's width and height
Box = tuple[int, int, int, int]  # left, top, right and bottom in pixels of the whole upright image
Choice = Callable[[int, int], int]  # width and height of an upright image -> a factor that `factor_for` gives

EXACT = "exact"  # CLASSIFICATION.STREAM_CROPS; the other value is "fast"
_FACTORS = (8, 4, 2)


class Opened(Protocol):
    """A decoded image that crops are cut from."""

    @property
    def width(self) -> int:
        """Of the whole upright image, in pixels."""

    @property
    def height(self) -> int:
        """As `width`."""

    def cut(self, share: Share, room: Tensor) -> Box:
        """Fill `room` (3, S, S) uint8, quickest if its colours lie next to each other, and say what was cut for it."""


@dataclass(frozen=True)
class WholeImage:
    """An image decoded in full, whose crops Pillow resizes: those of torchvision's `resized_crop`."""

    image: Image.Image

    @property
    def width(self) -> int:
        return int(self.image.width)

    @property
    def height(self) -> int:
        return int(self.image.height)

    def cut(self, share: Share, room: Tensor) -> Box:
        room.copy_(torch.from_numpy(resized_box(self.image, share, room.shape[-1])))
        return whole_pixels(share, self.width, self.height)


@dataclass(frozen=True)
class ReducedImage:
    """An upright image that was decoded at a fraction of its size, whose crops PyTorch resizes.

    Attributes:
        pixels: (h, w, 3) uint8 RGB, contiguous; each stands for `factor` x `factor` pixels of the whole image.
        width, height: of the whole image, in pixels.
        factor: 1, 2, 4 or 8.
        left, top: where `pixels` begins in the whole image, in its pixels.
    """

    pixels: Tensor
    width: int
    height: int
    factor: int = 1
    left: int = 0
    top: int = 0

    def cut(self, share: Share, room: Tensor) -> Box:
        box = whole_pixels(share, self.width, self.height)
        x0, x1 = self._nearest(box[0] - self.left, box[2] - self.left, self.pixels.shape[1])
        y0, y1 = self._nearest(box[1] - self.top, box[3] - self.top, self.pixels.shape[0])
        part = self.pixels[y0:y1, x0:x1].permute(2, 0, 1)
        if part.shape == room.shape:
            room.copy_(part)
        else:  # `interpolate` has no room of the caller's
            size = list(room.shape[-2:])
            torch.ops.aten._upsample_bilinear2d_aa.out(part[None], size, False, None, None, out=room[None])
        (left, right), (top, bottom) = (
            (first + self.factor * start, first + self.factor * end)
            for first, start, end in ((self.left, x0, x1), (self.top, y0, y1))
        )
        return left, top, right, bottom

    def _nearest(self, start: int, end: int, length: int) -> tuple[int, int]:
        """What comes nearest to a stretch of the whole image, in `pixels`; not fewer than fit into it."""
        count, first = ((2 * extent + self.factor) // (2 * self.factor) for extent in (end - start, start))
        count = min(count, length)
        first = min(max(0, first), length - count)
        return first, first + count


def factor_for(crops: Sequence[tuple[Share, int]], width: int, height: int) -> int:
    """The largest of 8, 4, 2, 1 at which each crop (box, side of its view) of an image is as large as its view."""
    boxes = [(whole_pixels(share, width, height), size) for share, size in crops]
    room = min(min(right - left, bottom - top) // size for (left, top, right, bottom), size in boxes)
    return next((factor for factor in _FACTORS if factor <= room), 1)


def reduced(content: bytes, name: str, choose: Choice) -> ReducedImage:
    """The image in `content`; a JPEG is decoded at the fraction 1 / `choose`(width, height).

    Args:
        content: of the file.
        name: of the image, for errors.
        choose: asked for JPEGs.

    Raises:
        UnreadableImage: as `decode`.
    """
    frame = ordinary_frame(content) if turbo.is_used() else None
    if frame and not oversize(frame.width, frame.height):
        size = frame.width, frame.height
        factor = choose(*size)
        pixels = turbo.pixels(content, size, factor)
        if pixels is not None:
            return ReducedImage(_inside(pixels, size, factor), *size, factor)
    with refused(name), open_header(io.BytesIO(content)) as opened:
        if isinstance(opened, JpegImageFile):
            check_header(opened)
            size, extent, turn = opened.size, upright_extent(opened), orientation(opened)
            factor = choose(*extent)
            alike = opened.format == "JPEG" and opened.mode in ("RGB", "L")
            pixels = turbo.pixels(content, size, factor) if alike else None
            if pixels is None:
                opened.draft(None, (size[0] // factor, size[1] // factor))
                opened.load()
                pixels = np.array(to_rgb(opened))
            left, top = (side % factor if back else 0 for side, back in zip(extent, mirrored(turn), strict=True))
            return ReducedImage(_inside(pixels, size, factor, turn), *extent, factor, left, top)
    return whole(decode(content, name))


def whole(image: Image.Image) -> ReducedImage:
    """An upright RGB image as one that was decoded in full."""
    return ReducedImage(torch.from_numpy(np.array(image)), image.width, image.height)


def _inside(pixels: Pixels, extent: tuple[int, int], factor: int, turn: int = 1) -> Tensor:
    """Upright, without a last column and row that reach over the end of the image, into what the encoder made up."""
    width, height = extent
    return torch.from_numpy(np.ascontiguousarray(turned(pixels[: height // factor, : width // factor], turn)))
