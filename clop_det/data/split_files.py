"""Label splits as files: frozen by a run as JSON, or given as a list of file names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from clop_det.data.layouts import ImageList
from clop_det.data.layouts.table import read_text
from clop_det.data.splits import VisibleLabels
from clop_det.errors import UserError
from clop_det.files import StrPath, read_json, write_json

_FORMAT = "clop_det label split 1"


def save_split(path: StrPath, images: ImageList, visible: VisibleLabels, settings: Mapping[str, Any] = {}) -> None:
    """Freeze the visible labels to a JSON file that a person can read.

    `labelled` lists the labelled files of each class of the data set; `told` names, file by file, the class that the
    loss is told where it is another one. `settings` (fraction, seed, ...) are for the reader; loading ignores them.
    """
    labelled: dict[str, list[str]] = {name: [] for name in images.classes}
    told: dict[str, str] = {}
    for index, label in zip(visible.indices.tolist(), visible.told.tolist(), strict=True):
        own = int(images.labels[index])
        labelled[images.classes[own]].append(images.files[index])
        if label != own:
            told[images.files[index]] = images.classes[label]
    content = {
        "format": _FORMAT,
        **settings,
        "images": len(images),
        "images_sha256": _fingerprint(images),
        "labelled_images": len(visible),
        "labelled": labelled,
        **({"told": told} if told else {}),
    }
    write_json(path, content)


def load_split(path: StrPath, images: ImageList) -> VisibleLabels:
    """Read which labels are visible, for the data set that the file was made for.

    A `.json` file is one that `save_split` wrote. Any other is a text file with a file name a line, as the published
    1 % and 10 % lists of ImageNet are (SimCLR, suncet): relative to the data set's folder, or any unambiguous end of
    that path, down to the bare name.

    Raises:
        UserError: not such a file, or it does not fit: other images, other classes, a listed file that is not there or
            is there several times, a label that differs, a class without a labelled image.
    """
    if Path(path).suffix.lower() == ".json":
        return _load_json(path, images)
    return _load_list(path, images)


def _load_json(path: StrPath, images: ImageList) -> VisibleLabels:
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise UserError(f"{path} is not a label split (expected a JSON object with format {_FORMAT!r})")
    labelled, told = content.get("labelled"), content.get("told", {})
    if not isinstance(labelled, dict) or not all(
        isinstance(files, list) and all(isinstance(file, str) for file in files) for files in labelled.values()
    ):
        raise UserError(f"{path}: 'labelled' must map each class to a list of files")
    if sorted(labelled) != sorted(images.classes):
        differing = sorted(set(labelled) ^ set(images.classes))
        raise UserError(f"label split {path} does not fit the data set in {images.root}: classes differ ({differing})")
    labels = _find(path, labelled, images)
    if content.get("images_sha256") != _fingerprint(images):
        raise UserError(
            f"label split {path} was made for another list of {content.get('images')} images than the {len(images)} in"
            f" {images.root}; use the data set it was made for, or draw a new split (LABELS.SPLIT_FILE '')"
        )
    place = {images.files[index]: index for index in labels}
    if not isinstance(told, dict) or any(f not in place or name not in images.classes for f, name in told.items()):
        raise UserError(f"{path}: 'told' must map labelled files to classes of the data set")
    labels.update({place[file]: images.classes.index(name) for file, name in told.items()})
    return _visible(labels)


def _find(path: StrPath, labelled: dict[str, list[Any]], images: ImageList) -> dict[int, int]:
    """Index and label of every listed file."""
    place = {file: index for index, file in enumerate(images.files)}
    found: dict[int, int] = {}
    for name, files in labelled.items():
        if not files:
            raise UserError(f"label split {path}: class {name!r} has no labelled image; every class needs at least one")
        for file in files:
            index = place.get(file)
            if index is None:
                raise UserError(f"label split {path} lists {file!r}, which is not in the data set in {images.root}")
            label = int(images.labels[index])
            if label < 0 or images.classes[label] != name:
                actual = images.classes[label] if label >= 0 else "unlabelled"
                raise UserError(f"label split {path} lists {file!r} as {name!r}, but the data set says {actual!r}")
            found[index] = label
    return found


def _load_list(path: StrPath, images: ImageList) -> VisibleLabels:
    try:
        text = read_text(Path(path), "surrogateescape")  # as the names of files are read
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the label split {path}: {error}") from error
    places: dict[str, list[int]] = {}
    for index, file in enumerate(images.files):
        places.setdefault(file.rsplit("/", 1)[-1], []).append(index)
    labels: dict[int, int] = {}
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if not line:
            continue
        ends = _ends(line, places, images)
        if not ends and "\\" in line:  # a list that Windows wrote
            ends = _ends(line.replace("\\", "/"), places, images)
        if len(ends) != 1:
            fault = "is not in" if not ends else f"fits {len(ends)} images ({images.files[ends[0]]}, ...) of"
            raise UserError(f"label split {path}, line {number}: {line!r} {fault} the data set in {images.root}")
        labels[ends[0]] = int(images.labels[ends[0]])
        if labels[ends[0]] < 0:
            raise UserError(f"label split {path}, line {number}: {line!r} has no label in the data set")
    missing = sorted(set(range(len(images.classes))) - set(labels.values()))
    if missing:
        raise UserError(
            f"label split {path} lists no image of class {images.classes[missing[0]]!r} ({len(missing)} of"
            f" {len(images.classes)} classes lack one); every class needs at least one"
        )
    return _visible(labels)


def _ends(line: str, places: Mapping[str, list[int]], images: ImageList) -> list[int]:
    """The images whose path ends in the path that a line names."""
    name = line.removeprefix("./")
    return [i for i in places.get(name.rsplit("/", 1)[-1], []) if f"/{images.files[i]}".endswith(f"/{name}")]


def _visible(labels: dict[int, int]) -> VisibleLabels:
    indices = sorted(labels)
    return VisibleLabels(
        torch.tensor(indices, dtype=torch.int64), torch.tensor([labels[i] for i in indices], dtype=torch.int64)
    )


def _fingerprint(images: ImageList) -> str:
    lines = [f"{label} {file}" for label, file in zip(images.labels.tolist(), images.files, strict=True)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()  # names need not be UTF-8
