"""Labels in a table: a CSV of path,label, and the annotation files of flat validation folders."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch

from clop_det.data.image_list import ImageList
from clop_det.data.layouts.registry import register_layout
from clop_det.errors import UserError

_HEADER = ["path", "label"]


@register_layout("csv")
def read_csv(root: Path, split: str) -> ImageList:
    """`root/<split>.csv` with the header `path,label`: a path relative to `root`, and a class name or nothing.

    An empty label is an unlabelled image. The classes are those of all such tables in `root`, in alphabetical order.
    """
    own = root / f"{split}.csv"
    tables = {path: _rows(path) for path in sorted(root.glob("*.csv")) if path == own or _is_ours(path)}
    if own not in tables:
        found = ", ".join(path.stem for path in tables) or "none"
        raise UserError(f"no table {own.name} in {root}; tables of path,label there: {found}")
    classes = sorted({label for rows in tables.values() for _, label in rows if label})
    if not tables[own]:
        raise UserError(f"{own} lists no image")
    numbers = {name: number for number, name in enumerate(classes)} | {"": -1}
    labels = torch.tensor([numbers[label] for _, label in tables[own]], dtype=torch.int64)
    return ImageList(root, tuple(path for path, _ in tables[own]), labels, tuple(classes))


def _is_ours(path: Path) -> bool:
    try:
        with open(path, newline="", encoding="utf-8-sig", errors="replace") as file:
            return _header(csv.reader(file)) == _HEADER
    except (OSError, csv.Error):  # a folder of that name, a table of something else
        return False


def _header(rows: Iterator[list[str]]) -> list[str]:
    """The names in the first line, in lower case."""
    return [name.strip().lower() for name in next(rows, [])]


def _rows(path: Path) -> list[tuple[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = _header(reader)
            if header != _HEADER:
                raise UserError(f"{path}: the first line is {','.join(header)!r}; it must be 'path,label'")
            return list(_checked(path, reader))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path} as a table: {error}") from error


def _checked(path: Path, rows: Iterator[list[str]]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        where = f"{path}, line {number}"
        if len(row) != 2:
            raise UserError(f"{where}: {len(row)} fields; it must have a path and a label (which may be empty)")
        name, label = row[0].strip(), row[1].strip()
        place = PurePosixPath(name)
        if not name or place.is_absolute() or ".." in place.parts:
            raise UserError(f"{where}: {name!r} must be a path below {path.parent}, relative to it")
        if name in seen:
            raise UserError(f"{where}: {name!r} is listed twice")
        seen.add(name)
        yield name, label


def label_rows(path: Path, separator: str | None = None) -> Iterator[tuple[str, str]]:
    """The first two fields of each line of an annotation file: an image's name and its class.

    Args:
        path: the file.
        separator: of the fields; None: white space.

    Raises:
        UserError: the file cannot be read, or a line has fewer than two fields.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = line.split(separator)
        if len(fields) < 2:
            raise UserError(f"{path}, line {number}: {line!r} is not a name and a class")
        yield fields[0].strip(), fields[1].strip()
