"""A folder of classes, and a folder of images without labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from clop_det.data.image_list import ImageList
from clop_det.data.image_sources import FileSource
from clop_det.data.layouts.registry import register_layout
from clop_det.data.paths import local_path
from clop_det.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")


@register_layout("folder")
def read_folder(root: Path, split: str) -> ImageList:
    """`root/split/class/**/image`: one folder a class, named by it.

    The classes are those of all splits together, in alphabetical order: a split that lacks some of them (a small
    validation part does) still gets labels that agree with the others.
    """
    require_split(root, split)
    classes = sorted({folder.name for sibling in folders(root) for folder in folders(sibling)})
    return read_class_folders(root, split, classes)


def read_class_folders(root: Path, split: str, classes: Sequence[str], inner: str = "") -> ImageList:
    """The images of `root/split/class/inner/**`, labelled by their place in `classes`.

    Raises:
        UserError: a class folder without an image or of an unknown class, a folder that cannot be listed, or no class
            folder at all.
    """
    files: list[str] = []
    labels: list[int] = []
    numbers = {name: number for number, name in enumerate(classes)}
    for folder in folders(root / split):
        if folder.name not in numbers:
            raise UserError(f"{folder} is no class of the data set in {root}; move it away")
        found = image_names(folder / inner)
        if not found:
            raise UserError(
                f"class folder {folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); add images or remove the folder"
            )
        place = "/".join(filter(None, (split, folder.name, inner)))
        files += [f"{place}/{name}" for name in found]
        labels += [numbers[folder.name]] * len(found)
    if not files:
        raise UserError(f"{root / split} holds no class folder; expected {split}/<class>/<image>")
    return ImageList(root, tuple(files), torch.tensor(labels, dtype=torch.int64), tuple(classes))


def read_unlabelled(root: str | os.PathLike[str], classes: tuple[str, ...]) -> ImageList:
    """All images below a folder, unlabelled; named `unlabelled/...`, to be joined to a labelled list of `classes`.

    Raises:
        UserError: the folder does not exist, cannot be listed or holds no image.
    """
    folder = local_path(root)
    found = image_names(folder)
    if not found:
        raise UserError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}) (CLASSIFICATION.UNLABELLED_ROOT)")
    labels = torch.full((len(found),), -1, dtype=torch.int64)
    names = tuple(f"unlabelled/{name}" for name in found)
    return ImageList(folder, names, labels, classes, FileSource(folder, found))


def require_split(root: Path, split: str) -> None:
    """UserError unless `root/split` is a folder."""
    if not split or not os.path.isdir(root / split):
        splits = [folder.name for folder in folders(root)] if os.path.isdir(root) else []
        raise UserError(f"no split folder {split!r} in {root}; folders there: {', '.join(splits) or 'none'}")


def folders(parent: Path) -> list[Path]:
    """The visible folders in `parent`, by name, without links to a folder around them.

    Raises:
        UserError: `parent` cannot be listed.
    """
    real = Path(os.path.realpath(parent))
    try:
        found = sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise _unlisted(error) from error
    return [path for path in found if not (path.is_symlink() and real.is_relative_to(os.path.realpath(path)))]


def image_names(folder: Path) -> list[str]:
    """All images below `folder`, relative to it, with forward slashes, sorted: an order that depends on names alone.

    Hidden files and folders do not count. Links are followed, but no folder is read twice, nor one around `folder`.

    Raises:
        UserError: a folder cannot be listed.
    """
    found = []
    start = len(str(folder)) + 1
    top = os.path.realpath(folder)
    seen = {top, *map(str, Path(top).parents)}
    for parent, below, names in os.walk(folder, onerror=_refuse, followlinks=True):
        below[:] = _unseen(parent, below, seen)
        place = parent[start:].replace(os.sep, "/")
        prefix = f"{place}/" if place else ""
        found += [prefix + name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and name[0] != "."]
    return sorted(found)


def _unseen(parent: str, names: list[str], seen: set[str]) -> list[str]:
    """Those visible folders in `parent` that are not among the real paths `seen`, which they join; links come last."""
    unseen = []
    for path in sorted((os.path.join(parent, name) for name in names), key=lambda path: (os.path.islink(path), path)):
        real = os.path.realpath(path)
        if not os.path.basename(path).startswith(".") and real not in seen:
            seen.add(real)
            unseen.append(os.path.basename(path))
    return unseen


def _refuse(error: OSError) -> None:
    raise _unlisted(error) from error


def _unlisted(error: OSError) -> UserError:
    return UserError(
        f"cannot list the folder {error.filename}: {error.strerror}; make it readable, move it away, or name a"
        " data root without it"
    )
