"""How a classification data set lies on disk: from (layout, root, split) to a list of files with labels."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from clop_det.data.paths import local_path
from clop_det.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class ImageList:
    """The images of one split.

    Attributes:
        root: folder that the file names are relative to.
        files: N file names relative to `root`, with forward slashes.
        labels: (N,) int64, indices into `classes`; -1 = unlabelled.
        classes: K class names. All splits of one data set have the same, so a label means the same in each.
    """

    root: Path
    files: tuple[str, ...]
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.files),):
            raise ValueError(f"{len(self.files)} files, but labels of shape {tuple(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.files)


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
        split: name of the split, e.g. "train".

    Raises:
        UserError: unknown layout, missing root or split, a class without an image, no image at all.
    """
    if layout not in _LAYOUTS:
        raise UserError(f"unknown layout {layout!r} of classification images; known: {', '.join(_LAYOUTS)}")
    return _LAYOUTS[layout](local_path(root), split)


@register_layout("folder")
def read_folder(root: Path, split: str) -> ImageList:
    """`root/split/class/**/image`: one folder a class, named by it.

    The classes are those of all splits together, in alphabetical order: a split that lacks some of them (a small
    validation part does) still gets labels that agree with the others.
    """
    if not split or not (root / split).is_dir():
        splits = [folder.name for folder in _folders(root)] if root.is_dir() else []
        raise UserError(f"no split folder {split!r} in {root}; folders there: {', '.join(splits) or 'none'}")
    classes = sorted({folder.name for sibling in _folders(root) for folder in _folders(sibling)})
    files: list[str] = []
    labels: list[int] = []
    for folder in _folders(root / split):
        found = _image_files(folder)
        if not found:
            raise UserError(
                f"class folder {folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); add images or remove the folder"
            )
        files += [path.relative_to(root).as_posix() for path in found]
        labels += [classes.index(folder.name)] * len(found)
    if not files:
        raise UserError(f"{root / split} holds no class folder; expected {split}/<class>/<image>")
    return ImageList(root, tuple(files), torch.tensor(labels, dtype=torch.int64), tuple(classes))


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    """All image files below `folder`, in an order that depends on their names alone."""
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, followlinks=True)
        for name in names
        if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())
