"""Labels in a table: a CSV of path,label, and the annotation files of flat validation folders."""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import torch

from clop_det.data.image_list import ImageList, is_no_label
from clop_det.data.layouts.registry import register_layout
from clop_det.errors import UserError
from clop_det.files import read_ordinary

_HEADER = ["path", "label"]
_log = logging.getLogger(__name__)


def table_classes(root: Path, split: str) -> list[str]:
    """The class names in `root/<split>.csv`; none where there is no such table."""
    path = root / f"{split}.csv"
    return sorted({label for _, label in _rows(path) if not is_no_label(label)}) if path.is_file() else []


@register_layout("csv", classes=table_classes)
def read_csv(root: Path, split: str) -> ImageList:
    """`root/<split>.csv` with the header `path,label`: a path relative to `root`, and a class name or nothing.

    An image whose label is empty, -1, nan or unlabelled has none. Tables as Excel and Notepad write them are read, too:
    separated by semicolons or tabs, in UTF-16, with a byte order mark or backslashes in the paths.
    """
    path = root / f"{split}.csv"
    if not path.is_file():
        found = ", ".join(sorted(table.stem for table in root.glob("*.csv"))) or "none"
        raise UserError(f"no table {path.name} in {root}; tables there: {found}")
    rows = _rows(path)
    if not rows:
        raise UserError(f"{path} lists no image")
    marks = Counter(label for _, label in rows if label and is_no_label(label))
    for mark, count in marks.items():
        _log.warning("%s: %d images with the label %r count as unlabelled", path, count, mark)
    classes = table_classes(root, split)
    numbers = {name: number for number, name in enumerate(classes)}
    labels = torch.tensor([numbers.get(label, -1) for _, label in rows], dtype=torch.int64)
    return ImageList(root, tuple(name for name, _ in rows), labels, tuple(classes))


def read_text(path: Path, errors: str = "strict") -> str:
    """A text file in UTF-8, or in UTF-16 where its byte order mark says so; the mark is taken off.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read, or is no such text.
    """
    content = read_ordinary(path)
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors)
    return content.decode("utf-8-sig", errors)


def existing_name(root: Path, name: str) -> str:
    """A file's name with forward slashes, unless a file is called so with backslashes."""
    return name if "\\" not in name or (root / name).exists() else name.replace("\\", "/")


def _rows(path: Path) -> list[tuple[str, str]]:
    try:
        text = read_text(path)
        first = text.partition("\n")[0]
        separator = next((mark for mark in (",", ";", "\t") if mark in first), ",")
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header = [name.strip().lower() for name in next(reader, [])]
        if header != _HEADER:
            raise UserError(f"{path}: the first line is {separator.join(header)!r}; it must be 'path,label'")
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
        name, label = existing_name(path.parent, row[0].strip()), row[1].strip()
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
        lines = read_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields = line.split(separator)
        if len(fields) < 2:
            raise UserError(f"{path}, line {number}: {line!r} is not a name and a class")
        yield fields[0].strip(), fields[1].strip()
