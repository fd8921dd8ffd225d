"""The images of one split of a data set: their names, their labels, and where their pixels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from clop_det.data.image_sources import FileSource, ImageSource, JoinedSource
from clop_det.errors import UserError


@dataclass(frozen=True)
class ImageList:
    """The images of one split.

    Attributes:
        root: folder that the file names are relative to.
        files: N names, unique, with forward slashes: of files relative to `root`, or made up by `source`.
        labels: (N,) int64, indices into `classes`; -1 = unlabelled.
        classes: K class names; none where no image has a label. All splits that a run uses have the same, so a label
            means the same in each.
        source: where the pixels are; by default in the files.
    """

    root: Path
    files: tuple[str, ...]
    labels: Tensor
    classes: tuple[str, ...]
    source: ImageSource = field(default=None, repr=False)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.files),):
            raise ValueError(f"{len(self.files)} files, but labels of shape {tuple(self.labels.shape)}")
        if len(self.labels) and not -1 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise ValueError(f"labels from {self.labels.min()} to {self.labels.max()} of {len(self.classes)} classes")
        if self.source is None:
            object.__setattr__(self, "source", FileSource(self.root, self.files))

    def __len__(self) -> int:
        return len(self.files)


# What stands for "no label" in tables and as a folder's name, in lower case: never meant as a class.
_NO_LABEL = frozenset({"", "-1", "nan", "unlabelled", "unlabeled"})


def is_no_label(name: str) -> bool:
    """Whether a label in a table, or the name of a class folder, says that the image has no label."""
    return name.strip().lower() in _NO_LABEL


def relabelled(images: ImageList, classes: Sequence[str]) -> ImageList:
    """The same images with labels that are indices into `classes`, which hold the list's own."""
    if images.classes == tuple(classes):
        return images
    place = torch.tensor([*(classes.index(name) for name in images.classes), -1], dtype=torch.int64)
    return ImageList(images.root, images.files, place[images.labels], tuple(classes), images.source)


def joined(lists: Sequence[ImageList]) -> ImageList:
    """The images of several lists, in order.

    Raises:
        UserError: they have other classes, or a name comes twice.
    """
    first = lists[0]
    if len(lists) == 1:
        return first
    for other in lists[1:]:
        if other.classes != first.classes:
            raise UserError(f"{first.root} and {other.root} cannot be joined: their classes differ")
    files = tuple(name for images in lists for name in images.files)
    if len(set(files)) != len(files):
        raise UserError(f"{first.root}: the joined splits share images; name each of them once")
    source = JoinedSource([images.source for images in lists], [len(images) for images in lists])
    return ImageList(first.root, files, torch.cat([images.labels for images in lists]), first.classes, source)
