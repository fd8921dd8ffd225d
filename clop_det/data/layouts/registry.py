"""The registry of layouts: from (layout, root, split) to a list of images with labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clop_det.data.image_list import ImageList, joined, relabelled
from clop_det.data.paths import local_path
from clop_det.keys import BOTH, Key
from clop_det.registry import Registry

# (root, split) -> the images of the split; a layout's own options come as keyword arguments in lower case.
Reader = Callable[..., ImageList]
# (root, split) -> the class names of that split, none for a split that is not there.
ClassNames = Callable[..., Sequence[str]]
LAYOUTS: Registry[Reader] = Registry("layout", "CLASSIFICATION.LAYOUTS", BOTH, "CLASSIFICATION.LAYOUT")
_CLASSES: dict[str, ClassNames] = {}


def register_layout(
    name: str, options: Mapping[str, Key] | None = None, classes: ClassNames | None = None
) -> Callable[[Reader], Reader]:
    """Register `reader(root, split, **options) -> ImageList` under `name`.

    Args:
        name: lower case; the value of the config key CLASSIFICATION.LAYOUT.
        options: option name (upper case) -> `Key`; each becomes the config key CLASSIFICATION.LAYOUTS.<NAME>.<OPTION>.
        classes: for a layout whose classes are found in the splits, so that one may lack some: (root, split) -> the
            class names of that split, none for a split that is not there. Without it every split has all classes.

    Raises:
        UserError: the name is taken, or a name is not in the expected case.
    """

    def register(reader: Reader) -> Reader:
        LAYOUTS.register(name, options)(reader)
        if classes is not None:
            _CLASSES[name] = classes
        return reader

    return register


def layout_names() -> list[str]:
    """Names of all registered layouts, sorted."""
    return LAYOUTS.names()


def read_images(
    layout: str, root: str | os.PathLike[str], split: str, beside: Sequence[str] = (), **options: Any
) -> ImageList:
    """List the images of one split of a data set.

    Args:
        layout: name of a registered layout.
        root: folder of the data set or an address such as `digits://cluttered` (see `local_path`).
        split: name of the split, e.g. "train"; "train+unlabelled" joins two.
        beside: the other splits that a run uses: their classes count, too. What else lies in `root` is not looked at.
        options: of the layout, in lower case.

    Raises:
        UserError: unknown layout, missing root or split, a class without an image, no image at all.
    """
    reader = LAYOUTS[layout]
    folder = local_path(root)
    images = [reader(folder, part, **options) for part in _parts(split)]
    if layout in _CLASSES:
        parts = dict.fromkeys(part for name in (split, *beside) for part in _parts(name))
        names = sorted({name for part in parts for name in _CLASSES[layout](folder, part)})
        images = [relabelled(part, names) for part in images]
    return joined(images)


def layout_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the layout that the config node CLASSIFICATION names, as `read_images` takes them."""
    values = LAYOUTS.options(settings["LAYOUT"], {"CLASSIFICATION": settings})
    return {name.lower(): value for name, value in values.items()}


def _parts(split: str) -> list[str]:
    return [part.strip() for part in split.split("+")]
