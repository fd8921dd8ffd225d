"""What a foreign checkpoint may cost: refused before memory is, by what the file itself can hold."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from clop_det.errors import UserError

_TIMES, _SPARE = 20, 64 << 20  # content may take so many times the file's bytes, and so many more
_MOST_ENTRIES = 2_000_000  # values in containers, each counted wherever it is named
_MEMO = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})


def most_bytes(path: Path) -> int:
    """Bytes that the content of a file may take in memory."""
    return _TIMES * path.stat().st_size + _SPARE


def check_memo(file: IO[bytes]) -> None:
    """Read a pickle's opcodes, and refuse an index of its memo that nothing but an attack needs; rewinds the file.

    CPython's unpickler makes its memo as large as the largest index.

    Raises:
        ValueError: there is such an index, or no pickle.
    """
    largest = count = 0
    for opcode, argument, _ in pickletools.genops(file):
        count += 1
        if opcode.name in _MEMO:
            largest = max(largest, int(str(argument)))
    if largest > count + 1000:  # hand-made pickles begin anywhere
        raise ValueError(f"memo index {largest} in a pickle of {count} operations")
    file.seek(0)


def is_zip(path: Path) -> bool:
    """Whether the file is a zip file, sound or not."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # Python's own test raises for one that spans disks
        return True


def check_archive(path: Path) -> None:
    """Refuse a zip file whose parts, unpacked, take far more than the file. torch itself never compresses.

    Raises:
        UserError: it is one.
        zipfile.BadZipFile: it is no zip file.
    """
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > most_bytes(path):
        raise UserError(f"{path} unpacks to {unpacked:,} bytes, {_TIMES} times its size: it holds no weights.")


def check_content(content: Any, path: Path) -> None:
    """Refuse containers that name one another over and over, and tensors or arrays that repeat a few bytes.

    A file of a few hundred bytes may hold lists of lists that would take years to walk.

    Raises:
        UserError: it holds more than 2,000,000 values, or tensors of more than 20 times the file's bytes.
    """
    count, size, left = 0, 0, [content]
    while left:
        value = left.pop()
        count += 1
        if isinstance(value, Mapping):
            # A file may give an ordered dictionary an attribute `values`.
            left.extend(dict.values(value) if isinstance(value, dict) else value.values())
        elif isinstance(value, list | tuple | set | frozenset):
            left.extend(value)
        elif isinstance(value, Tensor) and value.layout is torch.strided:
            size += value.numel() * value.element_size()
        elif isinstance(getattr(type(value), "held", None), property):
            size += value.held  # of a stand-in for an array, which will be made of a copy
        if count + len(left) > _MOST_ENTRIES:
            raise UserError(f"{path} names more than {_MOST_ENTRIES:,} values: it holds no weights.")
    if size > most_bytes(path):
        raise UserError(f"{path} names tensors of {size:,} bytes, {_TIMES} times its size: it holds no weights.")
