"""The registry of layouts: from (layout, root, split) to a list of images with labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from clop_det.data.image_list import ImageList, joined, relabelled
from clop_det.data.paths import local_path
from clop_det.errors import UserError

Reader = Callable[[Path, str], ImageList]
ClassNames = Callable[[Path, str], Sequence[str]]
_LAYOUTS: dict[str, Reader] = {}
_CLASSES: dict[str, ClassNames] = {}


def register_layout(name: str, classes: ClassNames | None = None) -> Callable[[Reader], Reader]:
    """Decorator: makes `reader(root, split) -> ImageList` available under CLASSIFICATION.LAYOUT `name`.

    Args:
        name: of the layout.
        classes: for a layout whose classes are found in the splits, so that one may lack some: (root, split) -> the
            class names of that split, none for a split that is not there. Without it every split has all classes.
    """

    def register(reader: Reader) -> Reader:
        if name in _LAYOUTS:
            raise ValueError(f"layout {name!r} is registered twice")
        _LAYOUTS[name] = reader
        if classes is not None:
            _CLASSES[name] = classes
        return reader

    return register


def layout_names() -> tuple[str, ...]:
    """Names of the registered layouts."""
    return tuple(_LAYOUTS)


def read_images(layout: str, root: str | os.PathLike[str], split: str, beside: Sequence[str] = ()) -> ImageList:
    """List the images of one split of a data set.

    Args:
        layout: name of a registered layout.
        root: folder of the data set or an address such as `digits://cluttered` (see `local_path`).
        split: name of the split, e.g. "train"; "train+unlabelled" joins two.
        beside: the other splits that a run uses: their classes count, too. What else lies in `root` is not looked at.

    Raises:
        UserError: unknown layout, missing root or split, a class without an image, no image at all.
    """
    if layout not in _LAYOUTS:
        raise UserError(f"unknown layout {layout!r} of classification images; known: {', '.join(_LAYOUTS)}")
    folder = local_path(root)
    images = [_LAYOUTS[layout](folder, part) for part in _parts(split)]
    if layout in _CLASSES:
        parts = dict.fromkeys(part for name in (split, *beside) for part in _parts(name))
        names = sorted({name for part in parts for name in _CLASSES[layout](folder, part)})
        images = [relabelled(part, names) for part in images]
    return joined(images)


def _parts(split: str) -> list[str]:
    return [part.strip() for part in split.split("+")]
