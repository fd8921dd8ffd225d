"""ImageNet (ILSVRC2012, `Data/CLS-LOC`): folders of wnids; validation in folders too, or flat with a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from clop_det.data.image_list import ImageList
from clop_det.data.layouts.folder import folders, image_names, read_class_folders, require_split
from clop_det.data.layouts.registry import register_layout
from clop_det.data.layouts.table import label_rows
from clop_det.errors import UserError

# Tables of a flat folder, looked for in the split's folder and in the root.
_TABLES = ("{split}_annotations.txt", "{split}.txt", "LOC_{split}_solution.csv")


@register_layout("imagenet")
def read_imagenet(root: Path, split: str) -> ImageList:
    """`root/train/<wnid>/*.JPEG`; another split likewise, or `root/<split>/*.JPEG` with a table of wnids.

    The table is `<split>_annotations.txt`, `<split>.txt` (name, then wnid or its number among the sorted wnids) or
    Kaggle's `LOC_<split>_solution.csv`, in the split's folder or in `root`. Classes are the sorted folders of `train`.
    """
    require_split(root, "train")
    require_split(root, split)
    classes = [folder.name for folder in folders(root / "train")]
    if folders(root / split):
        return read_class_folders(root, split, classes)
    return _flat(root, split, classes)


def _flat(root: Path, split: str, classes: Sequence[str]) -> ImageList:
    names = [table.format(split=split) for table in _TABLES]
    table = next((path for name in names for path in (root / split / name, root / name) if path.is_file()), None)
    if table is None:
        raise UserError(
            f"{root / split} holds neither class folders nor a table of its images; put {' or '.join(names)} there or"
            f" in {root}, a line an image: name and wnid"
        )
    files = image_names(root / split)
    if not files:
        raise UserError(f"{root / split} holds no image")
    numbers = _numbers(table, classes)
    missing = [name for name in files if Path(name).stem not in numbers]
    if missing:
        raise UserError(f"{table} has no line for {missing[0]} ({len(missing)} of {len(files)} images lack one)")
    labels = torch.tensor([numbers[Path(name).stem] for name in files], dtype=torch.int64)
    return ImageList(root, tuple(f"{split}/{name}" for name in files), labels, tuple(classes))


def _numbers(table: Path, classes: Sequence[str]) -> dict[str, int]:
    """Name without folder and suffix -> number of its class."""
    places = {wnid: number for number, wnid in enumerate(classes)}
    comma = table.suffix == ".csv"
    numbers: dict[str, int] = {}
    for name, text in label_rows(table, "," if comma else None):
        if comma and text == "PredictionString":  # Kaggle's header
            continue
        wnid = text.split()[0] if text else ""
        number = places.get(wnid, int(wnid) if wnid.isascii() and wnid.isdigit() and len(wnid) < 10 else -1)
        if not 0 <= number < len(classes):
            raise UserError(f"{table}: {wnid!r} of {name} is none of the {len(classes)} class folders of train")
        numbers[Path(name).stem] = number
    return numbers
