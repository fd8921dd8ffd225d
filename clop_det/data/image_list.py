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
        classes: K class names. All splits of one data set have the same, so a label means the same in each.
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
        if self.source is None:
            object.__setattr__(self, "source", FileSource(self.root, self.files))

    def __len__(self) -> int:
        return len(self.files)


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
