"""Tiny-ImageNet as its archive is: 200 folders of classes to train on, and a flat validation folder with a table."""

from __future__ import annotations

from pathlib import Path

import torch

from clop_det.data.image_list import ImageList
from clop_det.data.layouts.archives import class_names, extracted
from clop_det.data.layouts.folder import image_names, read_class_folders, require_split
from clop_det.data.layouts.registry import register_layout
from clop_det.data.layouts.table import label_rows
from clop_det.errors import UserError


@register_layout("tiny_imagenet")
def read_tiny_imagenet(root: Path, split: str) -> ImageList:
    """Splits `train` (`train/<wnid>/images`), `val` (`val/images` with `val/val_annotations.txt`), `test` (unlabelled).

    `root` is the extracted folder or the one around it; classes are the lines of `wnids.txt`, sorted.
    """
    folder = extracted(root, ("tiny-imagenet-200",), ("wnids.txt",))
    require_split(folder, split)
    classes = sorted(class_names(folder / "wnids.txt"))
    table = folder / split / f"{split}_annotations.txt"
    if table.is_file():
        return _flat(folder, split, table, classes)
    if (folder / split / "images").is_dir():
        files = tuple(f"{split}/images/{name}" for name in image_names(folder / split / "images"))
        labels = torch.full((len(files),), -1, dtype=torch.int64)
        return ImageList(folder, files, labels, tuple(classes))
    return read_class_folders(folder, split, classes, inner="images")


def _flat(folder: Path, split: str, table: Path, classes: list[str]) -> ImageList:
    wnids = dict(label_rows(table, "\t"))
    files = image_names(folder / split / "images")
    missing = [name for name in files if name not in wnids]
    if missing:
        raise UserError(f"{table} has no line for {missing[0]}; download the archive again")
    unknown = sorted(set(wnids.values()) - set(classes))
    if unknown:
        raise UserError(f"{table} names the class {unknown[0]!r}, which wnids.txt has not")
    numbers = {wnid: number for number, wnid in enumerate(classes)}
    labels = torch.tensor([numbers[wnids[name]] for name in files], dtype=torch.int64)
    return ImageList(folder, tuple(f"{split}/images/{name}" for name in files), labels, tuple(classes))
