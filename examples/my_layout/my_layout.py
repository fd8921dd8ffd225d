"""A layout of your own: folders of classes, joined to groups."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from clop_det.data.image_list import ImageList
from clop_det.data.layouts import read_images, register_layout
from clop_det.errors import UserError
from clop_det.keys import Key


# The option becomes the config key CLASSIFICATION.LAYOUTS.GROUPED.GROUPS.
@register_layout(
    "grouped", {"GROUPS": Key(["0 2 4 6 8", "1 3 5 7 9"], "Groups of classes, each their names with spaces between.")}
)
def read_grouped(root: Path, split: str, groups: list[str]) -> ImageList:
    """The layout `folder`, where every group of classes counts as one class, called by its names joined with "+".

    Raises:
        UserError: a class that is in no group, or in two.
    """
    listed = read_images("folder", root, split)
    places = torch.empty(len(listed.classes), dtype=torch.int64)
    for place, name in enumerate(listed.classes):
        found = [number for number, group in enumerate(groups) if name in group.split()]
        if len(found) != 1:
            raise UserError(f"CLASSIFICATION.LAYOUTS.GROUPED.GROUPS has class {name} {len(found)} times, not once.")
        places[place] = found[0]
    classes = tuple("+".join(group.split()) for group in groups)
    return dataclasses.replace(listed, labels=places[listed.labels], classes=classes)
