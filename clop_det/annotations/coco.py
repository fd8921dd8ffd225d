"""Reading COCO JSON: gapped and unsorted category ids, crowds, images without boxes, parent categories, subsets."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode

from clop_det.annotations.checks import Checks
from clop_det.annotations.voc import leads_out
from clop_det.errors import UserError
from clop_det.files import read_json

_LARGEST = 2**53  # whole numbers beyond it are none that a tensor takes


@dataclass(frozen=True)
class CocoSource:
    """One COCO annotation file.

    Attributes:
        path: the JSON file.
        image_dir: what its file names are relative to.
        categories: category id -> class name, in the order of the contiguous class indices.
    """

    path: Path
    image_dir: Path
    categories: dict[int, str]

    @property
    def names(self) -> tuple[str, ...]:
        """Class names."""
        return tuple(self.categories.values())

    @cached_property
    def index(self) -> dict[int, int]:
        """Category id -> class index."""
        return {category: i for i, category in enumerate(self.categories)}


def read_coco(path: Path) -> dict[str, Any]:
    """The JSON file, checked for its three lists of entries with ids; category ids must be unique.

    Names of categories are text in what is returned, where the file may have numbers.

    Raises:
        UserError: not JSON, a list is absent, an entry has no id, a category no name, or a category id occurs twice.
    """
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"{path} is no COCO annotation file: it has no list {key!r}.")
        for entry in content[key]:
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), int | str):
                raise UserError(f"{path}: an entry of {key!r} has no id: {str(entry)[:80]}.")
    twice = [number for number, count in Counter(entry["id"] for entry in content["categories"]).items() if count > 1]
    if twice:
        raise UserError(f"{path}: ids in 'categories' are not unique: {twice[0]} occurs twice.")
    return {**content, "categories": [_category(entry, path) for entry in content["categories"]]}


def _category(entry: dict[str, Any], path: Path) -> dict[str, Any]:
    name = entry.get("name")
    if not isinstance(name, int | str) or isinstance(name, bool) or name == "":
        raise UserError(f"{path}: a category without a name: {str(entry)[:80]}.")
    parent = entry.get("supercategory")
    return {**entry, "name": str(name), "supercategory": str(parent) if isinstance(parent, int | str) else None}


def find_categories(content: dict[str, Any], classes: Sequence[str], where: Path) -> dict[int, str]:
    """Category id -> name, in the order of the contiguous class indices.

    With `classes` given: those, in that order. Otherwise all by ascending id, but not a parent: a category without
    a box of its own that others name as their supercategory (as some exports add).

    Raises:
        UserError: no category, one name twice, or a class that the file does not know.
    """
    entries = sorted(content["categories"], key=_by_id)
    by_name = {entry["name"]: entry["id"] for entry in entries}
    if not entries or len(by_name) < len(entries):
        raise UserError(f"{where}: it lists no category, or one name twice.")
    unknown = [name for name in classes if name not in by_name]
    if unknown:
        raise UserError(f"{where} knows no category {', '.join(unknown)}; it has {', '.join(by_name)}.")
    if classes:
        return {by_name[name]: name for name in classes}
    used = {entry["category_id"] for entry in content["annotations"] if _is_key(entry.get("category_id"))}
    # A category that names itself as its supercategory (COCO's "person") is no parent.
    parents = {entry["supercategory"] for entry in entries if entry["supercategory"] != entry["name"]}
    return {entry["id"]: entry["name"] for entry in entries if entry["id"] in used or entry["name"] not in parents}


def load_coco(source: CocoSource, checks: Checks, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Dataset dicts in Detectron2's standard format, sorted by image id; other categories' boxes are left out.

    Args:
        only: file names of the images to take; empty: all.

    Raises:
        UserError: see `read_coco`; a file name of `only` that the file does not list.
    """
    content = read_coco(source.path)
    images = _images(content["images"], source, checks)
    # Without the images that were refused above: their annotations went with them.
    listed = {entry["id"] for entry in content["images"]}
    per_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for annotation in _annotations(content, source, checks):
        if annotation.get("image_id") not in listed:
            image = annotation.get("image_id")
            checks.found(
                "unknown_image", f"{source.path}: annotation {annotation['id']} belongs to image {image!r}: not listed"
            )
            continue
        entry = _entry(annotation, images.get(annotation["image_id"]), source, checks)
        if entry is not None:
            per_image[annotation["image_id"]].append(entry)
    chosen = _chosen(images, only, source.path)
    return [
        {
            "file_name": str(source.image_dir / image["file_name"]),
            "image_id": image["id"],
            "height": _whole(image.get("height")),
            "width": _whole(image.get("width")),
            "annotations": per_image[image["id"]],
        }
        for image in sorted(chosen, key=_by_id)
    ]


def _by_id(entry: dict[str, Any]) -> tuple[bool, Any]:
    """Sorts entries by id, numbers before texts."""
    return isinstance(entry["id"], str), entry["id"]


def _is_key(value: Any) -> bool:
    """Whether a value can name an entry: not one of JSON's lists and objects."""
    return not isinstance(value, list | dict)


def _images(entries: Sequence[dict[str, Any]], source: CocoSource, checks: Checks) -> dict[Any, dict[str, Any]]:
    images: dict[Any, dict[str, Any]] = {}
    for entry in entries:
        name, number = entry.get("file_name"), entry["id"]
        if not isinstance(name, str) or not name:
            raise UserError(f"{source.path}: image {number} has no file_name.")
        if leads_out(name):
            checks.found(
                "outside_root", f"{source.path} names {name!r}, which leads out of {source.image_dir}; it is not read"
            )
        elif number in images:
            checks.found("duplicate_image_id", f"{source.path}: image id {number} is not unique ({name})")
        else:
            images[number] = entry
    return images


def _annotations(content: dict[str, Any], source: CocoSource, checks: Checks) -> list[dict[str, Any]]:
    """The annotations of known categories, each with an id of its own."""
    declared = {entry["id"]: entry["name"] for entry in content["categories"]}
    unselected: Counter[str] = Counter()
    seen: set[Any] = set()
    kept = []
    spare = max((entry["id"] for entry in content["annotations"] if isinstance(entry["id"], int)), default=0)
    for entry in content["annotations"]:
        category, wrong = entry.get("category_id"), _wrong_key(entry)
        if wrong:
            checks.found("malformed_object", f"{source.path}: annotation {entry['id']} has the {wrong}")
            continue
        if category not in declared:
            checks.found(
                "unknown_class", f"{source.path}: annotation {entry['id']} has category_id {category!r}: not listed"
            )
            continue
        if category not in source.categories:
            unselected[declared[category]] += 1
            continue
        if entry["id"] in seen:
            if not checks.found("duplicate_annotation_id", f"{source.path}: annotation id {entry['id']} is not unique"):
                continue
            spare += 1
            entry = {**entry, "id": spare}
        seen.add(entry["id"])
        kept.append(entry)
    for name, count in unselected.items():
        checks.found("unselected_class", f"{source.path}: {count} of category {name}", count)
    return kept


def _wrong_key(annotation: dict[str, Any]) -> str:
    """The first id of another entry that is none, with its value; empty if there is none."""
    wrong = [key for key in ("category_id", "image_id") if not _is_key(annotation.get(key))]
    return f"{wrong[0]} {_short(annotation[wrong[0]])}, which is neither a number nor text" if wrong else ""


def _entry(
    annotation: dict[str, Any], image: dict[str, Any] | None, source: CocoSource, checks: Checks
) -> dict[str, Any] | None:
    """The annotation in Detectron2's format; its segmentation as written, for the checks that know the image's size."""
    if image is None:
        return None
    box, crowd, area = (annotation.get(key) for key in ("bbox", "iscrowd", "area"))
    fault = ""
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(value) for value in box):
        fault = f"has no box of four numbers ({_short(box)})"
    elif crowd not in (None, 0, 1):
        fault = f"has the iscrowd {_short(crowd)}, which is neither 0 nor 1"
    elif area is not None and not (_is_number(area) and 0 <= area < math.inf):
        fault = f"has the area {_short(area)}, which is no finite number from 0"
    if fault:
        checks.found("malformed_object", f"{source.path}: annotation {annotation['id']} {fault}")
        return None
    entry = {
        "id": annotation["id"],
        "iscrowd": int(crowd or 0),
        "category_id": source.index[annotation["category_id"]],
        "bbox": box,
        "bbox_mode": BoxMode.XYWH_ABS,
    }
    optional = {"area": area, "segmentation": annotation.get("segmentation")}
    return entry | {key: value for key, value in optional.items() if value is not None}


def _is_number(value: Any) -> bool:
    """Whether a value is a number that arrays can hold; infinite ones and NaN are."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) <= _LARGEST
    return isinstance(value, float)


def _short(value: Any) -> str:
    return repr(value)[:80]


def _chosen(images: dict[Any, dict[str, Any]], only: Sequence[str], path: Path) -> list[dict[str, Any]]:
    if not only:
        return list(images.values())
    by_name = {entry["file_name"]: entry for entry in images.values()}
    absent = [name for name in only if name not in by_name]
    if absent:
        raise UserError(f"{path} lists no image {absent[0]!r} ({len(absent)} of the {len(only)} in LIST are missing).")
    return [by_name[name] for name in dict.fromkeys(only)]


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value < 1e9 else 0
