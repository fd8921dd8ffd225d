"""Which labels a run may see: one stratified split, drawn once from the seed and frozen to a file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from clop_det.data.layouts import ImageList
from clop_det.engine.seeding import generator
from clop_det.errors import UserError
from clop_det.files import read_json, write_json

_FORMAT = "clop_det label split 1"


def label_split(
    labels: Tensor,
    fraction: float,
    seed: int,
    num_classes: int | None = None,
    class_names: Sequence[str] = (),
) -> Tensor:
    """Choose the images whose labels are seen.

    Of every class a share of `fraction`, rounded, at least one image. With the same seed a larger fraction contains the
    smaller one, so that studies over fractions add labels instead of exchanging them.

    Args:
        labels: (N,) int64; images with label -1 are never chosen and do not count.
        fraction: in (0, 1].
        seed: any integer; equal seeds give equal splits.
        num_classes: K; by default the number of names, or the largest label + 1.
        class_names: names for the error message.

    Returns:
        (M,) int64, sorted indices of the labelled images.

    Raises:
        UserError: fraction outside (0, 1], or a class without an image.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"label fraction is {fraction}; it must be in (0, 1] (LABELS.FRACTION)")
    counts = torch.bincount(labels[labels >= 0], minlength=num_classes or len(class_names) or 1)
    empty = (counts == 0).nonzero().view(-1).tolist()
    if empty:
        name = f" ({class_names[empty[0]]!r})" if empty[0] < len(class_names) else ""
        raise UserError(
            f"class {empty[0]}{name} of {len(counts)} has no labelled image; every class needs at least one:"
            " add images or remove the class from all splits"
        )
    chosen = []
    for label, count in enumerate(counts.tolist()):
        members = (labels == label).nonzero().view(-1)
        order = torch.randperm(count, generator=generator(seed, "label split", label))
        chosen.append(members[order[: max(1, int(fraction * count + 0.5))]])
    return torch.cat(chosen).sort().values


def masked_labels(labels: Tensor, indices: Tensor) -> Tensor:
    """A copy of `labels` (N,) with -1 everywhere but at `indices`."""
    masked = torch.full_like(labels, -1)
    masked[indices] = labels[indices]
    return masked


def save_split(
    path: str | os.PathLike[str],
    images: ImageList,
    indices: Tensor,
    *,
    fraction: float | None = None,
    seed: int | None = None,
) -> None:
    """Freeze a split to a JSON file that a person can read: the labelled files of each class.

    `fraction` and `seed` are recorded for the reader; loading does not use them.
    """
    labelled: dict[str, list[str]] = {name: [] for name in images.classes}
    for index in indices.tolist():
        labelled[images.classes[int(images.labels[index])]].append(images.files[index])
    content = {
        "format": _FORMAT,
        "fraction": fraction,
        "seed": seed,
        "images": len(images),
        "images_sha256": _fingerprint(images),
        "labelled_images": len(indices),
        "labelled": labelled,
    }
    write_json(path, content)


def load_split(path: str | os.PathLike[str], images: ImageList) -> Tensor:
    """Read a frozen split for the data set it was made from.

    Returns:
        (M,) int64, sorted indices into `images`.

    Raises:
        UserError: not such a file, or it does not fit: other images, other classes, a listed file that is not there,
            a label that differs, a class without a labelled image.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise UserError(f"{path} is not a label split (expected a JSON object with format {_FORMAT!r})")
    labelled = content.get("labelled")
    if not isinstance(labelled, dict) or not all(isinstance(files, list) for files in labelled.values()):
        raise UserError(f"{path}: 'labelled' must map each class to a list of files")
    if sorted(labelled) != sorted(images.classes):
        differing = sorted(set(labelled) ^ set(images.classes))
        raise UserError(f"label split {path} does not fit the data set in {images.root}: classes differ ({differing})")
    indices = _find(path, labelled, images)
    if content.get("images_sha256") != _fingerprint(images):
        raise UserError(
            f"label split {path} was made for another list of {content.get('images')} images than the {len(images)} in"
            f" {images.root}; use the data set it was made for, or draw a new split (LABELS.SPLIT_FILE '')"
        )
    return torch.tensor(sorted(indices), dtype=torch.int64)


def _find(path: str | os.PathLike[str], labelled: dict[str, list[Any]], images: ImageList) -> set[int]:
    place = {file: index for index, file in enumerate(images.files)}
    indices: set[int] = set()
    for name, files in labelled.items():
        if not files:
            raise UserError(f"label split {path}: class {name!r} has no labelled image; every class needs at least one")
        for file in files:
            index = place.get(file)
            if index is None:
                raise UserError(f"label split {path} lists {file!r}, which is not in the data set in {images.root}")
            if images.classes[int(images.labels[index])] != name:
                actual = images.classes[int(images.labels[index])]
                raise UserError(f"label split {path} lists {file!r} as {name!r}, but the data set says {actual!r}")
            indices.add(index)
    return indices


def _fingerprint(images: ImageList) -> str:
    lines = [f"{label} {file}" for label, file in zip(images.labels.tolist(), images.files, strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
