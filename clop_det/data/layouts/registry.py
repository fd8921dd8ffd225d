"""The registry of layouts: from (layout, root, split) to a list of images with labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from clop_det.data.image_list import ImageList, joined
from clop_det.data.paths import local_path
from clop_det.keys import BOTH, Key
from clop_det.registry import Registry

# (root, split) -> the images of the split; a layout's own options come as keyword arguments in lower case.
Reader = Callable[..., ImageList]
LAYOUTS: Registry[Reader] = Registry("layout", "CLASSIFICATION.LAYOUTS", BOTH, "CLASSIFICATION.LAYOUT")


def register_layout(name: str, options: Mapping[str, Key] | None = None) -> Callable[[Reader], Reader]:
    """Register `reader(root, split, **options) -> ImageList` under `name`.

    Args:
        name: lower case; the value of the config key CLASSIFICATION.LAYOUT.
        options: option name (upper case) -> `Key`; each becomes the config key CLASSIFICATION.LAYOUTS.<NAME>.<OPTION>.

    Raises:
        UserError: the name is taken, or a name is not in the expected case.
    """
    return LAYOUTS.register(name, options)


def layout_names() -> list[str]:
    """Names of all registered layouts, sorted."""
    return LAYOUTS.names()


def read_images(layout: str, root: str | os.PathLike[str], split: str, **options: Any) -> ImageList:
    """List the images of one split of a data set.

    Args:
        layout: name of a registered layout.
        root: folder of the data set or an address such as `digits://cluttered` (see `local_path`).
        split: name of the split, e.g. "train"; "train+unlabelled" joins two.
        options: of the layout, in lower case.

    Raises:
        UserError: unknown layout, missing root or split, a class without an image, no image at all.
    """
    reader = LAYOUTS[layout]
    folder = local_path(root)
    return joined([reader(folder, part.strip(), **options) for part in split.split("+")])


def layout_options(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the layout that the config node CLASSIFICATION names, as `read_images` takes them."""
    values = LAYOUTS.options(settings["LAYOUT"], {"CLASSIFICATION": settings})
    return {name.lower(): value for name, value in values.items()}
