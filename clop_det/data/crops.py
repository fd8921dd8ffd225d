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
    refused,
    resized_box,
    to_rgb,
    whole_pixels,
)
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

    def crop(self, share: Share, size: int) -> tuple[Tensor, Box]:
        """(3, size, size) uint8, and what was cut for it."""


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

    def crop(self, share: Share, size: int) -> tuple[Tensor, Box]:
        box = whole_pixels(share, self.width, self.height)
        return torch.from_numpy(resized_box(self.image, share, size)), box


@dataclass(frozen=True)
class ReducedImage:
    """An upright image that was decoded at a fraction of its size, whose crops PyTorch resizes.

    Attributes:
        pixels: (h, w, 3) uint8 RGB; each stands for `factor` x `factor` pixels of the whole image.
        width, height: of the whole image, in pixels.
        factor: 1, 2, 4 or 8.
        left, top: where `pixels` begins in the whole image, in its pixels.
    """

    pixels: Pixels
    width: int
    height: int
    factor: int = 1
    left: int = 0
    top: int = 0

    def crop(self, share: Share, size: int) -> tuple[Tensor, Box]:
        box = whole_pixels(share, self.width, self.height)
        x0, x1 = self._nearest(box[0] - self.left, box[2] - self.left, self.pixels.shape[1])
        y0, y1 = self._nearest(box[1] - self.top, box[3] - self.top, self.pixels.shape[0])
        cut = torch.from_numpy(np.array(self.pixels[y0:y1, x0:x1], order="C")).permute(2, 0, 1)
        if cut.shape[1:] != (size, size):
            cut = torch.nn.functional.interpolate(cut[None], (size, size), mode="bilinear", antialias=True)[0]
        corners = ((self.left + self.factor * x, self.top + self.factor * y) for x, y in ((x0, y0), (x1, y1)))
        return cut, tuple(place for corner in corners for place in corner)  # type: ignore[return-value]

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
    with refused(name), open_header(io.BytesIO(content)) as opened:
        if isinstance(opened, JpegImageFile):
            check_header(opened)
            (width, height), extent, turn = opened.size, upright_extent(opened), orientation(opened)
            factor = choose(*extent)
            pixels = turbo.pixels(content, opened, factor)
            if pixels is None:
                opened.draft(None, (width // factor, height // factor))
                opened.load()
                pixels = np.asarray(to_rgb(opened))
            # The last column and row of the file may reach over the end of the image, into what the encoder made up.
            inside = turned(pixels[: height // factor, : width // factor], turn)
            left, top = (side % factor if back else 0 for side, back in zip(extent, mirrored(turn), strict=True))
            return ReducedImage(inside, *extent, factor, left, top)
    return whole(decode(content, name))


def whole(image: Image.Image) -> ReducedImage:
    """An upright RGB image as one that was decoded in full."""
    return ReducedImage(np.asarray(image), image.width, image.height)
