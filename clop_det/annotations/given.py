"""Dataset dicts that a user's own function gives, as a table; what is not of Detectron2's standard format is noted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from clop_det.annotations.checks import ANNOTATION, IMAGE, Checks
from clop_det.annotations.coco_file import is_number
from clop_det.annotations.table import GIVEN, Boxes, Images, Table, no_shapes, objects
from clop_det.errors import UserError

_MODES = (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)


def table_of(records: Any, classes: Sequence[str], checks: Checks) -> Table:
    """Dataset dicts as a table; annotations that are malformed or of an unknown class are left out and noted.

    Args:
        records: what the function gave.
        classes: names of the classes; `category_id` counts from 0 to one less than there are.

    Raises:
        UserError: no list of dictionaries with a file name each.
    """
    if not isinstance(records, Sequence):
        raise UserError(f"data set {checks.name}: its function gives {type(records).__name__}, not a list of dicts.")
    images: list[tuple[str, Any, int, int]] = []
    entries: list[dict[str, Any]] = []
    owner: list[int] = []
    place: dict[str, int] = {}
    heads: list[Any] = []
    count = 0
    for i, record in enumerate(records):
        name = record.get("file_name") if isinstance(record, Mapping) else None
        if not isinstance(name, str | os.PathLike) or not os.fspath(name):
            raise UserError(f"data set {checks.name}: dataset dict {i} has no file_name: {str(record)[:80]}.")
        found = record.get("annotations")
        if not isinstance(found, Sequence | None):
            raise UserError(f"data set {checks.name}, {name}: 'annotations' is {type(found).__name__}, not a list.")
        count += len(found or ())
        path = os.fspath(name)
        if path in place:
            text = f"{path} is the file of dataset dicts {place[path]} and {i}"
            if not checks.found("repeated_image", text):
                continue
        else:
            place[path] = len(images)
            images.append((path, record.get("image_id", path), _side(record, "height"), _side(record, "width")))
            heads.append({key: value for key, value in record.items() if key != "annotations"})
        sound = [entry for entry in found or () if _is_sound(entry, path, classes, checks)]
        entries += sound
        owner += [place[path]] * len(sound)
    checks.listed = {IMAGE: len(records), ANNOTATION: count}
    order = np.argsort(np.array(owner, dtype=np.int64), kind="stable").tolist()
    return _table(images, heads, [entries[k] for k in order], [owner[k] for k in order])


def _side(record: Mapping[str, Any], key: str) -> int:
    value: Any = record.get(key)
    return int(value) if _number(value) and 0 <= value < 1e9 else 0


def _number(value: Any) -> bool:
    return is_number(value.item() if isinstance(value, np.generic) else value)


def _is_sound(entry: Any, path: str, classes: Sequence[str], checks: Checks) -> bool:
    fault = _fault(entry)
    if fault:
        checks.found("malformed_object", f"{path}: an annotation {fault}")
        return False
    category = entry["category_id"]
    if not 0 <= category < len(classes):
        text = f"category_id {category} is not one of 0..{len(classes) - 1} ({', '.join(classes[:10])})"
        checks.found("unknown_class", f"{path}: {text}")
        return False
    return True


def _fault(entry: Any) -> str:
    """What keeps an annotation from being one of Detectron2's; empty: nothing."""
    if not isinstance(entry, Mapping):
        return f"is no mapping ({str(entry)[:80]})"
    box, mode, category = (entry.get(key) for key in ("bbox", "bbox_mode", "category_id"))
    if not isinstance(box, Sequence | np.ndarray) or len(box) != 4 or not all(_number(value) for value in box):
        return f"has no box of four numbers ({str(box)[:80]})"
    if mode not in _MODES:
        return f"has the bbox_mode {mode!r}, which is neither BoxMode.XYXY_ABS nor BoxMode.XYWH_ABS"
    if not isinstance(category, int | np.integer) or isinstance(category, bool):
        return f"has the category_id {category!r}, which is no whole number"
    crowd, area = entry.get("iscrowd"), entry.get("area")
    if crowd not in (None, 0, 1):
        return f"has the iscrowd {str(crowd)[:80]}, which is neither 0 nor 1"
    if area is not None and not (_number(area) and 0 <= area < np.inf):
        return f"has the area {str(area)[:80]}, which is no finite number from 0"
    return ""


def _table(
    images: list[tuple[str, Any, int, int]], heads: list[Any], entries: list[dict[str, Any]], owner: list[int]
) -> Table:
    count = len(entries)
    size = np.array([image[2:] for image in images], dtype=np.int64).reshape(-1, 2)
    masks = [(row, entry["segmentation"]) for row, entry in enumerate(entries) if entry.get("segmentation") is not None]
    code = np.zeros(count, dtype=np.int64)
    code[[row for row, _ in masks]] = -1 - np.arange(len(masks))
    areas = [np.nan if entry.get("area") is None else float(entry["area"]) for entry in entries]
    boxes = Boxes(
        owner=np.array(owner, dtype=np.int64),
        category=np.array([entry["category_id"] for entry in entries], dtype=np.int32),
        box=np.array([[float(v) for v in entry["bbox"]] for entry in entries], dtype=np.float64).reshape(-1, 4),
        mode=np.array([int(entry["bbox_mode"]) for entry in entries], dtype=np.uint8),
        crowd=np.array([int(entry.get("iscrowd") or 0) for entry in entries], dtype=np.uint8),
        difficult=np.array([int(bool(entry.get("difficult"))) for entry in entries], dtype=np.uint8),
        area=np.array(areas, dtype=np.float64),
        number=objects([entry.get("id") for entry in entries]),
        first=np.zeros(count, dtype=np.int64),
        polygons=np.zeros(count, dtype=np.int64),
        code=code,
        code_size=np.zeros(count, dtype=np.int32),
    )
    flags = np.zeros(len(images), np.uint8)
    files = objects([image[0] for image in images])
    table = Images(files, objects([image[1] for image in images]), size[:, 0], size[:, 1], flags)
    return Table(table, boxes, no_shapes(), GIVEN, (objects(heads), objects(entries)), [mask for _, mask in masks])
