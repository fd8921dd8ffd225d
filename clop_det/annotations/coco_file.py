"""Parsing a COCO annotation file: annotations go into arrays one after the other, and none stays a dictionary.

msgspec cuts the file into its entries and parses each into a structure of the expected types. An entry that does not
fit them is parsed again as it is, to say what is wrong with it. NaN and Infinity, which JSON does not know but Python
writes, take Python's own parser.
"""

from __future__ import annotations

import codecs
import json
import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from clop_det.annotations.table import Array
from clop_det.errors import UserError
from clop_det.files import read_ordinary

LARGEST = 2**53  # whole numbers beyond it are none that a tensor takes
Id = int | str | float | None


class _Image(msgspec.Struct, gc=False):
    id: Id = None
    file_name: Any = None
    height: Any = None
    width: Any = None


class _Annotation(msgspec.Struct, gc=False):
    id: Id = None
    image_id: Id = None
    category_id: Id = None
    bbox: list[float] | None = None
    iscrowd: int | float | bool | None = None
    area: float | None = None
    segmentation: list[list[float]] | dict[str, Any] | None = None


class _Parts(msgspec.Struct):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    categories: list[Any]


@dataclass
class Column:
    """The annotations of a file as they are written, in its order; A of them.

    Attributes:
        number, image, category: (A,) ids.
        box: (A * 4) coordinates; NaN where there is no box.
        boxed: (A,) whether there is one.
        crowd: (A,) 0 or 1.
        area: (A,) NaN: none is given.
        polygons: (A,) how many polygons an annotation has.
        length: per polygon, its number of coordinates in `xy`.
        masks: row -> a segmentation that is no list of polygons.
        bad_ids, bad_fields: row -> what is wrong.
    """

    number: list[Any] = field(default_factory=list)
    image: list[Any] = field(default_factory=list)
    category: list[Any] = field(default_factory=list)
    box: array[float] = field(default_factory=lambda: array("d"))
    boxed: bytearray = field(default_factory=bytearray)
    crowd: list[Any] = field(default_factory=list)
    area: array[float] = field(default_factory=lambda: array("d"))
    polygons: array[int] = field(default_factory=lambda: array("q"))
    length: array[int] = field(default_factory=lambda: array("q"))
    xy: array[float] = field(default_factory=lambda: array("d"))
    masks: dict[int, Any] = field(default_factory=dict)
    bad_ids: dict[int, str] = field(default_factory=dict)
    bad_fields: dict[int, str] = field(default_factory=dict)


@dataclass
class CocoFile:
    """A COCO annotation file.

    Attributes:
        path: of the file.
        image_ids, names: of the images, in the order of the file.
        sizes: (N, 2) height and width; 0: unknown.
        categories: entries with `id`, `name` and `supercategory`.
        annotations: see `Column`.
    """

    path: Path
    image_ids: list[Any]
    names: list[str]
    sizes: Array
    categories: list[dict[str, Any]]
    annotations: Column


def read_coco(path: Path) -> CocoFile:
    """The JSON file, checked for its three lists of entries; images need ids and names, categories also unique ids.

    Raises:
        UserError: not JSON, a list is absent, an image or category has no id or no name, or a category id occurs twice.
    """
    try:
        content = read_ordinary(path).removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        try:
            parts = msgspec.json.decode(content, type=_Parts)
            images, entries, categories = parts.images, parts.annotations, parts.categories
            parse: Any = msgspec.json.Decoder(_Annotation).decode
            parse_image: Any = msgspec.json.Decoder(_Image).decode
        except (msgspec.DecodeError, UnicodeDecodeError):
            images, entries, categories = _as_python_does(content, path)
            parse, parse_image = _converter(_Annotation), _converter(_Image)
        del content
        found = [_image(entry, parse_image, path) for entry in images]
        known = _categories(categories, path)
        column = _column(entries, parse, path)
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end]
        raise UserError(f"{path} holds {half!r}, half of a surrogate pair, which is no text. Correct it.") from error
    except RecursionError as error:
        raise UserError(f"{path}: its lists and objects are nested too deeply for an annotation file.") from error
    except ValueError as error:  # of Python's parser: a number of thousands of digits
        raise UserError(f"cannot read {path} as JSON: {error}") from error
    ids, names, sizes = zip(*found, strict=True) if found else ((), (), ())
    return CocoFile(path, list(ids), list(names), np.array(sizes, dtype=np.int64).reshape(-1, 2), known, column)


def _as_python_does(content: bytes, path: Path) -> Iterator[list[Any]]:
    """The three lists by Python's parser: in any encoding of JSON, with NaN and Infinity."""
    try:
        whole = json.loads(content)
    except ValueError as error:
        raise UserError(f"cannot read {path} as JSON: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(whole, dict) or not isinstance(whole.get(key), list):
            raise UserError(f"{path} is no COCO annotation file: it has no list {key!r}.")
        yield whole[key]


def _converter(kind: type[Any]) -> Any:
    return lambda entry: msgspec.convert(entry, kind)


def _plain(entry: Any) -> Any:
    """An entry as Python's own objects; numbers may be of any size."""
    return json.loads(bytes(entry)) if isinstance(entry, msgspec.Raw) else entry


def _id(value: Any) -> Any:
    """An id; 3.0 is 3, as tables of numbers write whole numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _image(entry: Any, parse: Any, path: Path) -> tuple[Any, str, tuple[int, int]]:
    try:
        image = parse(entry)
    except (msgspec.ValidationError, OverflowError):
        image = _Image()
    if image.id is None:
        raise UserError(f"{path}: an entry of 'images' has no id: {str(_plain(entry))[:80]}.")
    if not isinstance(image.file_name, str) or not image.file_name:
        raise UserError(f"{path}: image {image.id} has no file_name.")
    return _id(image.id), image.file_name, (_whole(image.height), _whole(image.width))


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e9 else 0


def _categories(entries: Sequence[Any], path: Path) -> list[dict[str, Any]]:
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("id"), int | str | float):
            raise UserError(f"{path}: an entry of 'categories' has no id: {str(entry)[:80]}.")
    known = [_category({**entry, "id": _id(entry["id"])}, path) for entry in entries]
    twice = [number for number, count in Counter(entry["id"] for entry in known).items() if count > 1]
    if twice:
        raise UserError(f"{path}: ids in 'categories' are not unique: {twice[0]} occurs twice.")
    return known


def _category(entry: dict[str, Any], path: Path) -> dict[str, Any]:
    name = entry.get("name")
    if not isinstance(name, int | str) or isinstance(name, bool) or name == "":
        raise UserError(f"{path}: a category without a name: {str(entry)[:80]}.")
    parent = entry.get("supercategory")
    parent = str(parent) if isinstance(parent, int | str) else None
    f"{entry['id']} {name} {parent}".encode()  # msgspec asks the same of the texts of the other lists
    return {"id": entry["id"], "name": str(name), "supercategory": parent}


def _column(entries: Sequence[Any], parse: Any, path: Path) -> Column:
    """The annotations in arrays: the one loop over all of them."""
    column = Column()
    number, image, category, crowd = column.number, column.image, column.category, column.crowd
    area, box, boxed, polygons = column.area, column.box, column.boxed, column.polygons
    length, xy = column.length, column.xy
    for row, entry in enumerate(entries):
        try:
            found = parse(entry)
            if found.area is not None and found.area != found.area:
                column.bad_fields[row] = "has the area nan, which is no finite number from 0"
        except (msgspec.ValidationError, OverflowError):
            found = _odd(_plain(entry), row, column, path)
        number.append(found.id)
        image.append(found.image_id)
        category.append(found.category_id)
        crowd.append(found.iscrowd)
        area.append(math.nan if found.area is None else found.area)
        corners = found.bbox
        if corners and len(corners) == 4:
            boxed.append(1)
            box.fromlist(corners)
        else:
            boxed.append(0)
            box.extend((math.nan,) * 4)
            if corners and row not in column.bad_fields:
                column.bad_fields[row] = f"has no box of four numbers ({_short(corners)})"
        mask = found.segmentation
        if mask.__class__ is list:
            polygons.append(len(mask))
            for polygon in mask:
                length.append(len(polygon))
                xy.fromlist(polygon)
        else:
            polygons.append(0)
            if mask is not None:
                column.masks[row] = mask
    return column


def _odd(entry: Any, row: int, column: Column, path: Path) -> _Annotation:
    """An annotation that is not of the expected types, and what is wrong with it."""
    if not isinstance(entry, dict):
        raise UserError(f"{path}: an entry of 'annotations' is no object: {_short(entry)}.")
    for key in ("category_id", "image_id"):
        if isinstance(entry.get(key), list | dict):
            column.bad_ids[row] = f"has the {key} {_short(entry[key])}, which is neither a number nor text"
            return _Annotation()
    box, crowd, area = (entry.get(key) for key in ("bbox", "iscrowd", "area"))
    if box and not (isinstance(box, list) and len(box) == 4 and all(is_number(value) for value in box)):
        column.bad_fields[row], box = f"has no box of four numbers ({_short(box)})", None
    elif not isinstance(crowd, int | float | None):
        column.bad_fields[row], crowd = f"has the iscrowd {_short(crowd)}, which is neither 0 nor 1", None
    elif area is not None and not is_number(area):
        column.bad_fields[row], area = f"has the area {_short(area)}, which is no finite number from 0", None
    number = entry.get("id")
    if entry.get("segmentation") is not None:
        column.masks[row] = entry["segmentation"]
    return _Annotation(
        id=number if isinstance(number, int | str | float) else None,
        image_id=entry.get("image_id"),
        category_id=entry.get("category_id"),
        bbox=[float(value) for value in box] if box and row not in column.bad_fields else None,
        iscrowd=crowd,
        area=area if row not in column.bad_fields else None,
    )


def is_number(value: Any) -> bool:
    """Whether a value is a number that arrays can hold; infinite ones and NaN are."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) <= LARGEST
    return isinstance(value, float)


def _short(value: Any) -> str:
    return repr(value)[:80]
