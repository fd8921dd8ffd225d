"""The registry of layouts: from (layout, root, split) to a list of images with labels."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from clop_det.data.image_list import ImageList, joined
from clop_det.data.paths import local_path
from clop_det.errors import UserError

Reader = Callable[[Path, str], ImageList]
_LAYOUTS: dict[str, Reader] = {}


def register_layout(name: str) -> Callable[[Reader], Reader]:
    """Decorator: makes `reader(root, split) -> ImageList` available under CLASSIFICATION.LAYOUT `name`."""

    def register(reader: Reader) -> Reader:
        if name in _LAYOUTS:
            raise ValueError(f"layout {name!r} is registered twice")
        _LAYOUTS[name] = reader
        return reader

    return register


def layout_names() -> tuple[str, ...]:
    """Names of the registered layouts."""
    return tuple(_LAYOUTS)


def read_images(layout: str, root: str | os.PathLike[str], split: str) -> ImageList:
    """List the images of one split of a data set.

    Args:
        layout: name of a registered layout.
        root: folder of the data set or an address such as `digits://cluttered` (see `local_path`).
        split: name of the split, e.g. "train"; "train+unlabelled" joins two.

    Raises:
        UserError: unknown layout, missing root or split, a class without an image, no image at all.
    """
    if layout not in _LAYOUTS:
        raise UserError(f"unknown layout {layout!r} of classification images; known: {', '.join(_LAYOUTS)}")
    folder = local_path(root)
    return joined([_LAYOUTS[layout](folder, part.strip()) for part in split.split("+")])
