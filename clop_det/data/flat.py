"""A look at a few images before training: a data set of flat or black images teaches nothing and is refused."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np

from clop_det.data.decoding import BROKEN, Pixels, grey_bits, open_header
from clop_det.errors import UserError

_LOOKED_AT = 32
_BLACK = 32  # of 255: 12-bit values read as 16 bits reach 15


def check_not_flat(names: Sequence[str], pixels: Callable[[int], Pixels], content: Callable[[int], bytes]) -> None:
    """Refuse a data set whose images hold no picture: most are one flat colour, or none of them is brighter than black.

    32 images are looked at, evenly spread; those that cannot be read are left to who reads them next.

    Args:
        names: N names of images, for the message.
        pixels: index -> (H, W, 3) uint8, as the run sees it.
        content: index -> the image's file, for the cause.

    Raises:
        UserError: names an image, and the cause where it is the bits of deep grey files.
    """
    flat, brightest, seen = [], 0, []
    for index in np.unique(np.linspace(0, len(names) - 1, min(_LOOKED_AT, len(names))).round().astype(int)).tolist():
        try:
            image = pixels(index)
        except UserError:
            continue
        seen.append(index)
        brightest = max(brightest, int(image.max(initial=0)))
        if (image == image[:1, :1]).all():
            flat.append(index)
    if 2 * len(flat) > len(seen):
        fault, example = f"{len(flat)} of {len(seen)} images looked at are one flat colour", flat[0]
    elif seen and brightest < _BLACK:
        fault, example = f"no pixel of {len(seen)} images looked at is brighter than {brightest} of 255", seen[0]
    else:
        return
    raise UserError(f"{fault} (such as {names[example]}). {_cause([content(index) for index in seen])}")


def _cause(contents: Sequence[bytes]) -> str:
    deepest = max(map(_grey_value, contents))
    if deepest >= 0 and deepest >> (grey_bits() - 3) == 0:
        bits = next(bits for bits in (8, 10, 12, 14, 16, 24, 32) if deepest < 2**bits)
        return (
            f"They are grey images of more than 8 bits whose values end at {deepest}, where INPUT.GREY_BITS"
            f" {grey_bits()} makes {2 ** grey_bits() - 1} white: set INPUT.GREY_BITS {bits}."
        )
    return "Look at the files: there is nothing to learn from them."


def _grey_value(content: bytes) -> int:
    """The highest value of a deep grey image; -1 for any other."""
    try:
        with open_header(io.BytesIO(content)) as image:
            return int(np.asarray(image).max(initial=0)) if image.mode.startswith("I") else -1
    except BROKEN:
        return -1
