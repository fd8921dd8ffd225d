"""CIFAR-10 and CIFAR-100 as their archives are, "python" or "binary" (Krizhevsky 2009; cs.toronto.edu/~kriz/cifar)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clop_det.checkpoints.array_pickle import read_array_pickle
from clop_det.data.decoding import Pixels
from clop_det.data.image_list import ImageList
from clop_det.data.image_sources import ArrayFile
from clop_det.data.layouts.archives import array_list, class_names, extracted
from clop_det.data.layouts.registry import register_layout
from clop_det.errors import UserError

_IMAGE = (3, 32, 32)
_BYTES = 3 * 32 * 32
_REMEDY = "Download the archive again."


@dataclass(frozen=True)
class _Archive:
    """How one of the two data sets is packed.

    Attributes:
        folders: names of the extracted folders, of the "python" and the "binary" archive.
        parts: split -> its files (the binary archive adds `.bin`).
        label_key, names_key: of the labels in a python batch, of the class names in the python `meta` file.
        meta: file of the class names in the python and in the binary archive.
        label_bytes: label bytes before the pixels of a binary record; the last of them is the class.
    """

    folders: tuple[str, str]
    parts: dict[str, tuple[str, ...]]
    label_key: str
    names_key: str
    meta: tuple[str, str]
    label_bytes: int


_CIFAR10 = _Archive(
    folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
    parts={"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)},
    label_key="labels",
    names_key="label_names",
    meta=("batches.meta", "batches.meta.txt"),
    label_bytes=1,
)
_CIFAR100 = _Archive(
    folders=("cifar-100-python", "cifar-100-binary"),
    parts={"train": ("train",), "test": ("test",)},
    label_key="fine_labels",
    names_key="fine_label_names",
    meta=("meta", "fine_label_names.txt"),
    label_bytes=2,
)


@register_layout("cifar10")
def read_cifar10(root: Path, split: str) -> ImageList:
    """Splits `train` and `test`; `root` is the extracted folder or the one around it."""
    return _read(_CIFAR10, root, split)


@register_layout("cifar100")
def read_cifar100(root: Path, split: str) -> ImageList:
    """Splits `train` and `test`, the 100 fine classes; `root` is the extracted folder or the one around it."""
    return _read(_CIFAR100, root, split)


def _read(archive: _Archive, root: Path, split: str) -> ImageList:
    if split not in archive.parts:
        raise UserError(f"split {split!r} of {root}: CIFAR has the splits {', '.join(archive.parts)}")
    folder = extracted(root, archive.folders, archive.meta)
    python = (folder / archive.meta[0]).is_file()
    names = archive.parts[split]
    if python:
        meta = folder / archive.meta[0]
        classes = _entry(meta, read_array_pickle(meta, _REMEDY), archive.names_key)
        parts, labels = _python_parts(archive, folder, names)
    else:
        classes = class_names(folder / archive.meta[1])
        parts, labels = _binary_parts(archive, folder, names)
    return array_list(folder, parts, labels, [str(name) for name in classes])


def _python_parts(
    archive: _Archive, folder: Path, names: Sequence[str]
) -> tuple[list[tuple[str, ArrayFile]], list[int]]:
    parts: list[tuple[str, ArrayFile]] = []
    labels: list[int] = []
    for name in names:
        path = folder / name
        content = read_array_pickle(path, _REMEDY)
        own = _entry(path, content, archive.label_key)
        count = len(_pixels(path, content))
        if len(own) != count or not all(isinstance(label, int) for label in own):
            raise UserError(f"{path} has {len(own)} labels for {count} images, or a label that is no number. {_REMEDY}")
        parts.append((name, ArrayFile(path, count, load_python)))
        labels += own
    return parts, labels


def _binary_parts(
    archive: _Archive, folder: Path, names: Sequence[str]
) -> tuple[list[tuple[str, ArrayFile]], list[int]]:
    parts, labels = [], []
    load = (load_binary10, load_binary100)[archive.label_bytes - 1]
    for name in names:
        path = folder / f"{name}.bin"
        records = _records(path, archive.label_bytes)
        parts.append((name, ArrayFile(path, len(records), load)))
        labels += records[:, archive.label_bytes - 1].tolist()
    return parts, labels


def _entry(path: Path, content: Any, key: str) -> Sequence[Any]:
    """The list `key` of a python file's content."""
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise UserError(f"{path} holds no list {key!r}; it is not a file of CIFAR. {_REMEDY}")
    found: list[Any] = content[key]
    return found


def load_python(path: Path) -> Pixels:
    """(n, 3, 32, 32) uint8 of a python batch; nothing in the pickle is run."""
    return _pixels(path, read_array_pickle(path, _REMEDY))


def _pixels(path: Path, content: Any) -> Pixels:
    """(n, 3, 32, 32) of a python batch's content."""
    pixels = content.get("data") if isinstance(content, dict) else None
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_BYTES,):
        raise UserError(f"{path} holds no array 'data' of n x {_BYTES} bytes; it is not a batch of CIFAR. {_REMEDY}")
    return pixels.reshape(-1, *_IMAGE)


def load_binary10(path: Path) -> Pixels:
    """(n, 3, 32, 32) uint8 of a binary batch of CIFAR-10, memory-mapped."""
    return _records(path, 1)[:, 1:].reshape(-1, *_IMAGE)


def load_binary100(path: Path) -> Pixels:
    """(n, 3, 32, 32) uint8 of a binary batch of CIFAR-100, memory-mapped."""
    return _records(path, 2)[:, 2:].reshape(-1, *_IMAGE)


def _records(path: Path, label_bytes: int) -> Pixels:
    """(n, label_bytes + 3072): the records of a binary batch, memory-mapped."""
    length = label_bytes + _BYTES
    try:
        size = path.stat().st_size
        if size == 0 or size % length:
            raise UserError(f"{path} has {size} bytes, no multiple of {length}; it is damaged. {_REMEDY}")
        records: Pixels = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, length)
        return records
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}. {_REMEDY}") from error
