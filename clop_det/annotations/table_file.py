"""A table on disk: arrays one after the other.

Three parts: the SHA-256 of the second as a line of text, a line of JSON, the arrays. The JSON says what the file is of,
how its arrays lie, and their SHA-256. A file in which these do not agree is not read; nothing is unpickled.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from clop_det.annotations.table import Array, Boxes, Images, Shapes, Table, raw
from clop_det.files import atomic_write

_FORMAT = "clop_det checked data set 1"
_TYPES = {"<i8", "<i4", "<f8", "|u1"}
_TEXT = "text"  # in place of a type: JSON
_LONGEST = 64 << 20  # bytes of the line of JSON


def write_table(path: Path, key: str, table: Table, facts: dict[str, Any]) -> None:
    """Write a table, whole or not at all.

    Args:
        key: of what it was made from; `read_table` asks for it.
        facts: what else is to be kept, for JSON.

    Raises:
        UserError: the file cannot be written.
    """
    places: dict[str, tuple[str, list[int], int]] = {}
    parts: list[memoryview] = []
    digest, offset = hashlib.sha256(), 0
    for name, column in _columns(table).items():
        kind, shape = column.dtype.str, list(column.shape)
        if column.dtype == object:
            kind, column = _TEXT, np.frombuffer(json.dumps(column.tolist()).encode(), dtype=np.uint8)
            shape = list(column.shape)
        parts.append(raw(column))
        digest.update(parts[-1])
        places[name] = (kind, shape, offset)
        offset += parts[-1].nbytes
    head = {"format": _FORMAT, "key": key, "form": table.form, "size": offset, "sha256": digest.hexdigest()}
    line = json.dumps({**head, "arrays": places, "facts": facts}).encode()
    with atomic_write(path) as file:
        file.write(hashlib.sha256(line).hexdigest().encode() + b"\n" + line + b"\n")
        for part in parts:
            file.write(part)


def read_head(path: Path, key: str) -> dict[str, Any] | None:
    """The line of JSON; None if there is no such file, or none that is whole and of `key`."""
    try:
        with open(path, "rb") as file:
            mark, line = file.readline(65), file.readline(_LONGEST)
            if mark[:64] != hashlib.sha256(line[:-1]).hexdigest().encode():
                return None
            head: dict[str, Any] = json.loads(line)
            size = os.fstat(file.fileno()).st_size - file.tell()
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(head, dict) and head.get("format") == _FORMAT and head.get("key") == key
    return {**head, "start": len(mark) + len(line)} if whole and head.get("size") == size else None


def read_table(path: Path, key: str) -> tuple[Table, dict[str, Any]] | None:
    """The table and facts of `write_table`; None if there is no such file, or none that is whole and of `key`."""
    head = read_head(path, key)
    if head is None:
        return None
    try:
        # Into memory, not mapped: a mapped file that somebody cuts, or that a file server forgets, ends the process.
        payload = memoryview(bytearray(head["size"]))
        with open(path, "rb", buffering=0) as file:
            file.seek(head["start"])
            read = 0
            while part := file.readinto(payload[read:]):
                read += part
        if hashlib.sha256(payload).hexdigest() != head["sha256"]:
            return None
        columns = {name: _array(payload, *place) for name, place in head["arrays"].items()}
        images, boxes, shapes = (_part(kind, columns) for kind in (Images, Boxes, Shapes))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Table(images, boxes, shapes, head["form"]), head["facts"]


def _columns(table: Table) -> dict[str, Array]:
    return {
        f"{type(part).__name__}.{field.name}": getattr(part, field.name)
        for part in (table.images, table.boxes, table.shapes)
        for field in dataclasses.fields(part)
    }


def _part(kind: type[Any], columns: dict[str, Array]) -> Any:
    return kind(**{field.name: columns[f"{kind.__name__}.{field.name}"] for field in dataclasses.fields(kind)})


def _array(payload: memoryview, kind: str, shape: list[int], offset: int) -> Array:
    if kind == _TEXT:
        values = json.loads(payload[offset : offset + shape[0]].tobytes())
        column = np.empty(len(values), dtype=object)
        column[:] = values
        return column
    if kind not in _TYPES:
        raise ValueError(kind)
    return np.frombuffer(payload, dtype=kind, count=int(np.prod(shape)), offset=offset).reshape(shape)
