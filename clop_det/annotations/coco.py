"""From a COCO file to a table: gapped and unsorted category ids, crowds, images without boxes, parents, subsets."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from clop_det.annotations.checks import ANNOTATION, IMAGE, Checks
from clop_det.annotations.coco_file import LARGEST, CocoFile, Column, read_coco
from clop_det.annotations.names import leads_out
from clop_det.annotations.segmentation import smallest_box
from clop_det.annotations.table import COCO, Array, Boxes, Images, Shapes, Table, column_of
from clop_det.errors import UserError


@dataclass(frozen=True)
class CocoSource:
    """One COCO annotation file.

    Attributes:
        path: the JSON file.
        image_dir: what its file names are relative to.
        categories: category id -> class name.
        classes: class names in the order of the class indices, where the file has not all of them; empty: those of
            `categories`.
        mode: what the four numbers of a box are: XYWH_ABS as COCO says, or XYXY_ABS.
    """

    path: Path
    image_dir: Path
    categories: dict[Any, str]
    classes: tuple[str, ...] = ()
    mode: BoxMode = BoxMode.XYWH_ABS

    @property
    def names(self) -> tuple[str, ...]:
        """Class names."""
        return self.classes or tuple(self.categories.values())

    @cached_property
    def index(self) -> dict[Any, int]:
        """Category id -> class index."""
        return {category: self.names.index(name) for category, name in self.categories.items()}


def find_categories(file: CocoFile, classes: Sequence[str], where: Path) -> dict[Any, str]:
    """Category id -> name, in the order of the contiguous class indices.

    With `classes` given: those of them that the file has, in that order. Otherwise all by ascending id, but not a
    parent: a category without a box of its own that others name as their supercategory (as some exports add).

    Raises:
        UserError: no category, one name twice, or a class that the file does not know while it has another.
    """
    used = set(file.annotations.category)
    # A category that names itself as its supercategory (COCO's "person") is no parent, but for a root of no box that
    # bears the name of a child.
    names = Counter(entry["name"] for entry in file.categories)
    parents = {entry["supercategory"] for entry in file.categories if entry["supercategory"] != entry["name"]}
    entries = [
        entry
        for entry in sorted(file.categories, key=_by_id)
        if names[entry["name"]] == 1 or entry["id"] in used or entry["name"] not in parents
    ]
    by_name = {entry["name"]: entry["id"] for entry in entries}
    if not entries or len(by_name) < len(entries):
        raise UserError(f"{where}: it lists no category, or one name twice.")
    if not classes:
        return {entry["id"]: entry["name"] for entry in entries if entry["id"] in used or entry["name"] not in parents}
    absent = [name for name in classes if name not in by_name]
    others = [name for name in by_name if name not in classes and name not in parents]
    if absent and (others or len(absent) == len(classes)):  # else the file has fewer classes, and no other name
        near = difflib.get_close_matches(absent[0], by_name, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(f"{where} knows no category {', '.join(absent)}{hint}; it has {', '.join(by_name)}.")
    return {by_name[name]: name for name in classes if name in by_name}


def load_coco(source: CocoSource, checks: Checks, only: Sequence[str] = (), file: CocoFile | None = None) -> Table:
    """The file as a table, sorted by image id; other categories' boxes are left out.

    Args:
        only: file names of the images to take; empty: all.
        file: what `read_coco` gave, if it was called.

    Raises:
        UserError: see `read_coco`; a file name of `only` that the file does not list.
    """
    file = file or read_coco(source.path)
    images, place = _images(file, source, checks)
    rows = _known_rows(file, place, source, checks)
    boxes, shapes, rows, pending = _boxes(file.annotations, rows, source, checks)
    boxes.owner = np.array([place[file.annotations.image[row]] for row in rows.tolist()], dtype=np.int64)
    number = images.number.tolist()
    order = np.array(sorted(range(len(number)), key=lambda i: (isinstance(number[i], str), number[i])), dtype=np.int64)
    chosen = order[_chosen(images.file[order].tolist(), only, source.path)]
    folder = f"{source.image_dir}/"
    images.file = column_of([folder + name.removeprefix("./") for name in images.file])
    checks.listed = {IMAGE: len(file.image_ids), ANNOTATION: len(file.annotations.number)}
    return Table(images, boxes, shapes, COCO, pending=pending).take_images(chosen)


def _by_id(entry: dict[str, Any]) -> tuple[bool, Any]:
    """Sorts entries by id, numbers before texts."""
    return isinstance(entry["id"], str), entry["id"]


def _images(file: CocoFile, source: CocoSource, checks: Checks) -> tuple[Images, dict[Any, int]]:
    """The images, file names as written, and id -> row; -1 where annotations go with an image that is left out."""
    place: dict[Any, int] = {}
    first: dict[str, Any] = {}
    kept: list[int] = []
    for i, (number, name) in enumerate(zip(file.image_ids, file.names, strict=True)):
        if leads_out(name):
            checks.found(
                "outside_root", f"{source.path} names {name!r}, which leads out of {source.image_dir}; it is not read"
            )
            place.setdefault(number, -1)
        elif number in place:
            checks.found("duplicate_image_id", f"{source.path}: image id {number} is not unique ({name})")
        elif (plain := name.removeprefix("./")) in first:
            text = f"{source.path}: images {first[plain]} and {number} are both {plain}"
            place[number] = place[first[plain]] if checks.found("repeated_image", text) else -1
        else:
            place[number], first[plain] = len(kept), number
            kept.append(i)
    rows = np.array(kept, dtype=np.int64)
    size = file.sizes[rows]
    numbers = column_of([file.image_ids[i] for i in kept])
    names = column_of([file.names[i] for i in kept])
    return Images(names, numbers, size[:, 0], size[:, 1], np.zeros(len(rows), np.uint8)), place


def _known_rows(file: CocoFile, place: dict[Any, int], source: CocoSource, checks: Checks) -> Array:
    """Rows of the annotations that can be read, of known categories and images; ids are made unique."""
    column, where = file.annotations, source.path
    declared = {entry["id"]: entry["name"] for entry in file.categories}
    for values in (column.image, column.category, column.number):
        if any(value.__class__ is float for value in values):  # 3.0 is 3, as tables of numbers write whole numbers
            values[:] = [int(v) if isinstance(v, float) and v.is_integer() else v for v in values]
    kept = [row for row in range(len(column.number)) if row not in column.bad_ids] if column.bad_ids else None
    for row, text in column.bad_ids.items():
        checks.found("malformed_object", f"{where}: annotation {_number(column, row)} {text}")
    unselected: Counter[str] = Counter()
    found = []
    for row in range(len(column.number)) if kept is None else kept:
        category = column.category[row]
        if category in source.categories:
            found.append(row)
        elif category in declared:
            unselected[declared[category]] += 1
        else:
            text = f"{where}: annotation {_number(column, row)} has category_id {category!r}: not listed"
            checks.found("unknown_class", text)
    for name, count in unselected.items():
        checks.found("unselected_class", f"{where}: {count} of category {name}", count)
    found = _numbered(column, found, where, checks)
    listed = [row for row in found if column.image[row] in place]
    if len(listed) < len(found):
        for row in found:
            if column.image[row] not in place:
                text = f"annotation {column.number[row]} belongs to image {column.image[row]!r}: not listed"
                checks.found("unknown_image", f"{where}: {text}")
    return np.array([row for row in listed if place[column.image[row]] >= 0], dtype=np.int64)


def _number(column: Column, row: int) -> Any:
    number = column.number[row]
    return f"number {row + 1}" if number is None else number


def _numbered(column: Column, rows: list[int], where: Path, checks: Checks) -> list[int]:
    """The rows whose ids are unique, or were made so."""
    numbers = column.number
    if None not in numbers and len(set(numbers)) == len(numbers):
        return rows
    spare = max((number for number in numbers if isinstance(number, int)), default=0)
    seen: set[Any] = set()
    kept = []
    for row in rows:
        if numbers[row] is None:
            sound = checks.found("no_annotation_id", f"{where}: annotation {_number(column, row)} has no id")
        elif numbers[row] in seen:
            sound = checks.found("duplicate_annotation_id", f"{where}: annotation id {numbers[row]} is not unique")
        else:
            seen.add(numbers[row])
            kept.append(row)
            continue
        if sound:
            spare += 1
            numbers[row] = spare
            kept.append(row)
    return kept


def _boxes(column: Column, rows: Array, source: CocoSource, checks: Checks) -> tuple[Boxes, Shapes, Array, list[Any]]:
    """The annotations of these rows without those whose fields are malformed; their masks, rows and pending masks."""
    count, polygons = len(column.number), np.array(column.polygons, dtype=np.int64)
    box = np.frombuffer(column.box, dtype=np.float64).reshape(-1, 4) if count else np.zeros((0, 4))
    area, length = np.array(column.area, dtype=np.float64), np.array(column.length, dtype=np.int64)
    xy = np.frombuffer(column.xy, dtype=np.float64) if len(column.xy) else np.zeros(0)
    shapes = Shapes(np.cumsum(length) - length, length, xy, np.zeros(0, dtype=np.uint8))
    code = np.zeros(count, dtype=np.int64)
    code[list(column.masks)] = -1 - np.arange(len(column.masks))
    boxes = Boxes(
        owner=np.zeros(count, dtype=np.int64),
        category=np.array([source.index.get(category, 0) for category in column.category], dtype=np.int32),
        box=box,
        mode=np.full(count, int(source.mode), dtype=np.uint8),
        crowd=np.array([crowd == 1 for crowd in column.crowd], dtype=np.uint8),
        difficult=np.zeros(count, dtype=np.uint8),
        area=area,
        number=column_of(column.number),
        first=np.cumsum(polygons) - polygons,
        polygons=polygons,
        code=code,
        code_size=np.zeros(count, dtype=np.int32),
    )
    _find_boxes(column, boxes, shapes, rows, source, checks)
    rows = rows[_sound(column, boxes, rows, source.path, checks)]
    return boxes.take(rows), shapes, rows, list(column.masks.values())


def _find_boxes(column: Column, boxes: Boxes, shapes: Shapes, rows: Array, source: CocoSource, checks: Checks) -> None:
    """Give the rows without a box the one around their mask; what has neither is malformed."""
    boxed = np.array(column.boxed, dtype=bool)
    unboxed = rows[~boxed[rows]]
    if not len(unboxed):
        return
    boxes.box = boxes.box.copy()
    for row in unboxed.tolist():
        if row in column.bad_fields:
            continue
        mask = column.masks.get(row)
        polygons = range(boxes.first[row], boxes.first[row] + boxes.polygons[row])
        found = smallest_box(
            mask or [shapes.xy[shapes.start[k] : shapes.start[k] + shapes.length[k]] for k in polygons]
        )
        text = f"{source.path}: annotation {column.number[row]} has no box"
        if found is None:
            column.bad_fields[row] = "has no box of four numbers (None)"
        elif checks.found("no_box", text):
            boxes.box[row] = found
            if source.mode == BoxMode.XYXY_ABS:
                boxes.box[row, 2:] += boxes.box[row, :2]
        else:
            column.bad_fields[row] = ""


def _sound(column: Column, boxes: Boxes, rows: Array, where: Path, checks: Checks) -> Array:
    """(R,) bool: whether the fields of a row are what they must be."""
    fields = column.bad_fields
    for row in np.flatnonzero((np.abs(boxes.box) > LARGEST).any(axis=1) & np.isfinite(boxes.box).all(axis=1)).tolist():
        fields.setdefault(row, f"has no box of four numbers ({boxes.box[row].tolist()})")
    for row, crowd in enumerate(column.crowd):
        if crowd is not None and crowd != 0 and crowd != 1:
            fields.setdefault(row, f"has the iscrowd {crowd!r}, which is neither 0 nor 1")
    # Given and no number from 0: NaN stands for an absent area, so a written one was noted while the file was parsed.
    for row in np.flatnonzero((boxes.area < 0) | np.isinf(boxes.area)).tolist():
        fields.setdefault(row, f"has the area {boxes.area[row]:g}, which is no finite number from 0")
    sound = np.ones(len(boxes.owner), dtype=bool)
    sound[list(fields)] = False
    for row in rows[~sound[rows]].tolist():
        if fields[row]:
            checks.found("malformed_object", f"{where}: annotation {column.number[row]} {fields[row]}")
    return np.asarray(sound[rows])


def _chosen(names: list[str], only: Sequence[str], path: Path) -> Array:
    """Places in `names` of the names in `only`; of all, if it is empty."""
    if not only:
        return np.arange(len(names))
    place = {name: i for i, name in enumerate(names)}
    absent = [name for name in only if name not in place]
    if absent:
        raise UserError(f"{path} lists no image {absent[0]!r} ({len(absent)} of the {len(only)} in LIST are missing).")
    return np.array(sorted(place[name] for name in set(only)), dtype=np.int64)
