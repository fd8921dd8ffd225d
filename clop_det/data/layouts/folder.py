"""A folder of classes, and a folder of images without labels."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from clop_det.data.decoding import IMAGE_SUFFIXES
from clop_det.data.image_list import ImageList, is_no_label
from clop_det.data.image_sources import FileSource
from clop_det.data.layouts.registry import register_layout
from clop_det.data.paths import local_path
from clop_det.errors import UserError

_NO_DATA = ("__MACOSX", "thumbs.db", "desktop.ini")  # what archivers and file managers leave
_log = logging.getLogger(__name__)


def folder_classes(root: Path, split: str) -> list[str]:
    """Names of the class folders of a split; none for a split that is not there."""
    found = folders(root / split) if os.path.isdir(root / split) else []
    return [folder.name for folder in found if not is_no_label(folder.name)]


@register_layout("folder", classes=folder_classes)
def read_folder(root: Path, split: str) -> ImageList:
    """`root/split/class/**/image`: one folder a class, named by it, in alphabetical order.

    A folder called `unlabelled` (or -1, nan) holds images without labels, and so does a split without any folder:
    `root/split/image`.
    """
    require_split(root, split)
    if not folders(root / split):
        return _without_labels(root, split)
    images = read_class_folders(root, split, folder_classes(root, split))
    loose = [name for name in os.listdir(root / split) if name.lower().endswith(IMAGE_SUFFIXES) and name[0] != "."]
    if loose:
        _log.warning(
            "%d images such as %s lie beside the class folders in %s and are not read; images without labels go into a"
            " folder 'unlabelled' there",
            *(len(loose), min(loose), root / split),
        )
    return images


def _without_labels(root: Path, split: str) -> ImageList:
    left_out: Counter[str] = Counter()
    found = image_names(root / split, left_out)
    _report(root / split, left_out)
    if not found:
        raise UserError(
            f"{root / split} holds neither class folders nor images; expected {split}/<class>/<image>, or"
            f" {split}/<image> without labels"
        )
    labels = torch.full((len(found),), -1, dtype=torch.int64)
    return ImageList(root, tuple(f"{split}/{name}" for name in found), labels, ())


def read_class_folders(root: Path, split: str, classes: Sequence[str], inner: str = "") -> ImageList:
    """The images of `root/split/class/inner/**`, labelled by their place in `classes`; -1 for those of no label.

    Raises:
        UserError: a class folder without an image or of an unknown class, a folder that cannot be listed, or no class
            folder at all.
    """
    files: list[str] = []
    labels: list[int] = []
    numbers = {name: number for number, name in enumerate(classes)}
    left_out: Counter[str] = Counter()
    for folder in folders(root / split):
        number = numbers.get(folder.name, -1)
        if number < 0 and not is_no_label(folder.name):
            raise UserError(f"{folder} is no class of the data set in {root}; move it away")
        found = image_names(folder / inner, left_out)
        if not found:
            raise UserError(
                f"class folder {folder} holds no image ({', '.join(IMAGE_SUFFIXES)}); add images or remove the folder"
            )
        if number < 0:
            _log.warning("the %d images in %s count as unlabelled", len(found), folder)
        place = "/".join(filter(None, (split, folder.name, inner)))
        files += [f"{place}/{name}" for name in found]
        labels += [number] * len(found)
    _report(root / split, left_out)
    if not files:
        raise UserError(f"{root / split} holds no class folder; expected {split}/<class>/<image>")
    return ImageList(root, tuple(files), torch.tensor(labels, dtype=torch.int64), tuple(classes))


def read_unlabelled(root: str | os.PathLike[str], classes: tuple[str, ...]) -> ImageList:
    """All images below a folder, unlabelled; named `unlabelled/...`, to be joined to a labelled list of `classes`.

    Raises:
        UserError: the folder does not exist, cannot be listed or holds no image.
    """
    folder = local_path(root)
    left_out: Counter[str] = Counter()
    found = image_names(folder, left_out)
    _report(folder, left_out)
    if not found:
        raise UserError(f"{folder} holds no image ({', '.join(IMAGE_SUFFIXES)}) (CLASSIFICATION.UNLABELLED_ROOT)")
    labels = torch.full((len(found),), -1, dtype=torch.int64)
    names = tuple(f"unlabelled/{name}" for name in found)
    return ImageList(folder, names, labels, classes, FileSource(folder, found))


def require_split(root: Path, split: str) -> None:
    """UserError unless `root/split` is a folder."""
    if not split or not os.path.isdir(root / split):
        splits = [folder.name for folder in folders(root)] if os.path.isdir(root) else []
        raise UserError(
            f"no split folder {split!r} in {root}; folders there: {', '.join(splits) or 'none'}"
            " (CLASSIFICATION.ROOT holds a folder for each of TRAIN_SPLIT and EVAL_SPLIT)"
        )


def folders(parent: Path) -> list[Path]:
    """The visible folders in `parent`, by name, without links to a folder around them.

    Raises:
        UserError: `parent` cannot be listed.
    """
    real = Path(os.path.realpath(parent))
    try:
        found = sorted(path for path in parent.iterdir() if path.is_dir() and _is_data(path.name))
    except OSError as error:
        raise _unlisted(error) from error
    return [path for path in found if not (path.is_symlink() and real.is_relative_to(os.path.realpath(path)))]


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in map(str.lower, _NO_DATA)


def _report(folder: Path, left_out: Counter[str]) -> None:
    """Name the files that are not read: nothing is left out in silence."""
    if left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.most_common(5))
        _log.warning("%d files in %s are of types that are not read: %s", sum(left_out.values()), folder, kinds)


def image_names(folder: Path, left_out: Counter[str] | None = None) -> list[str]:
    """All images below `folder`, relative to it, with forward slashes, sorted: an order that depends on names alone.

    Hidden files and folders do not count. Links are followed, but no folder is read twice, nor one around `folder`.

    Args:
        folder: where to look.
        left_out: takes how many files there are of each type that is not read, by suffix.

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
        images = {name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and name[0] != "."}
        found += [prefix + name for name in images]
        if left_out is not None:
            others = (name for name in names if name not in images and _is_data(name))
            left_out.update(os.path.splitext(name)[1].lower() or "without suffix" for name in others)
    return sorted(found)


def _unseen(parent: str, names: list[str], seen: set[str]) -> list[str]:
    """Those visible folders in `parent` that are not among the real paths `seen`, which they join; links come last."""
    unseen = []
    for path in sorted((os.path.join(parent, name) for name in names), key=lambda path: (os.path.islink(path), path)):
        real = os.path.realpath(path)
        if _is_data(os.path.basename(path)) and real not in seen:
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
