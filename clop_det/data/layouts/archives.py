"""What the archives of CIFAR and STL-10 share: where they were extracted, and lists of the images in their arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from clop_det.data.image_list import ImageList
from clop_det.data.image_sources import ArrayFile, ArraySource
from clop_det.errors import UserError


def extracted(root: Path, names: Sequence[str], markers: Sequence[str]) -> Path:
    """The folder that an archive was extracted to: `root` or one of `names` in it; it holds one of `markers`.

    Raises:
        UserError: there is none; the message says what to extract.
    """
    for folder in (root, *(root / name for name in names)):
        if any((folder / marker).is_file() for marker in markers):
            return folder
    packed = sorted(path.name for path in root.glob("*.tar.gz")) if root.is_dir() else []
    remedy = f"extract {packed[0]} there (tar xzf)" if packed else "download and extract the archive there"
    raise UserError(f"{root} holds neither {' nor '.join(names)} (looked for {', '.join(markers)}); {remedy}")


def array_list(
    root: Path, parts: Sequence[tuple[str, ArrayFile]], labels: Sequence[int], classes: Sequence[str]
) -> ImageList:
    """Images of several array files; those of a part are called `part/00000`, `part/00001`, ...

    Raises:
        UserError: another number of labels than images, or a label that is no class.
    """
    files = tuple(f"{name}/{index:05d}" for name, part in parts for index in range(part.count))
    if len(labels) != len(files):
        raise UserError(f"{root}: {len(labels)} labels for {len(files)} images; download the archive again")
    numbers = torch.tensor(labels, dtype=torch.int64)
    if len(numbers) and not -1 <= int(numbers.min()) <= int(numbers.max()) < len(classes):
        raise UserError(
            f"{root}: labels from {int(numbers.min())} to {int(numbers.max())} for {len(classes)} classes; "
            "download the archive again"
        )
    return ImageList(root, files, numbers, tuple(classes), ArraySource([part for _, part in parts]))


def class_names(path: Path) -> list[str]:
    """One name a line; blank lines do not count."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the class names in {path}: {error}") from error
