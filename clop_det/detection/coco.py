"""Reading COCO JSON: gapped and unsorted category ids, crowds, images without boxes, parent categories, subsets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.structures import BoxMode

from clop_det.detection.voc import check_inside
from clop_det.errors import UserError
from clop_det.files import read_json

_KEPT = ("iscrowd", "bbox", "area", "id")


def read_coco(path: Path) -> dict[str, Any]:
    """The JSON file, checked for its three lists, and for ids that are unique.

    Raises:
        UserError: not JSON, a list is absent, or an image or annotation id occurs twice.
    """
    content = read_json(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise UserError(f"{path} is no COCO annotation file: it has no list {key!r}.")
    for key in ("images", "annotations", "categories"):
        ids = [entry.get("id") for entry in content[key]]
        if len(set(ids)) < len(ids):
            raise UserError(f"{path}: ids in {key!r} are missing or not unique.")
    return dict(content)


def find_categories(content: dict[str, Any], classes: Sequence[str], where: Path) -> dict[int, str]:
    """Category id -> name, in the order of the contiguous class indices.

    With `classes` given: those, in that order. Otherwise all by ascending id, but not a parent: a category without
    a box of its own that others name as their supercategory (as some exports add).

    Raises:
        UserError: no category, one name twice, or a class that the file does not know.
    """
    entries = sorted(content["categories"], key=lambda entry: entry["id"])
    by_name = {entry["name"]: entry["id"] for entry in entries}
    if not entries or len(by_name) < len(entries):
        raise UserError(f"{where}: it lists no category, or one name twice.")
    unknown = [name for name in classes if name not in by_name]
    if unknown:
        raise UserError(f"{where} knows no category {', '.join(unknown)}; it has {', '.join(by_name)}.")
    if classes:
        return {by_name[name]: name for name in classes}
    used = {annotation["category_id"] for annotation in content["annotations"]}
    # A category that names itself as its supercategory (COCO's "person") is no parent.
    parents = {entry.get("supercategory") for entry in entries if entry.get("supercategory") != entry["name"]}
    return {entry["id"]: entry["name"] for entry in entries if entry["id"] in used or entry["name"] not in parents}


def load_coco(
    path: Path, image_dir: Path, categories: dict[int, str], *, content: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Dataset dicts in Detectron2's standard format, sorted by image id; other categories' boxes are left out.

    Raises:
        UserError: see `read_coco`; a box that is not four numbers, an annotation of an unknown image, a file name that
            leads out of `image_dir`.
    """
    content = read_coco(path) if content is None else content
    index = {category: i for i, category in enumerate(categories)}
    per_image: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    known = {image["id"] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation["image_id"] not in known:
            raise UserError(
                f"{path}: annotation {annotation['id']} belongs to image {annotation['image_id']}: not listed."
            )
        if annotation["category_id"] in index:
            per_image[annotation["image_id"]].append(_annotation(annotation, index, path))
    records = []
    for image in sorted(content["images"], key=lambda entry: entry["id"]):
        check_inside(image["file_name"], path)
        record = {"file_name": str(image_dir / image["file_name"]), "image_id": image["id"]}
        size = {key: int(image[key]) for key in ("height", "width")}
        records.append({**record, **size, "annotations": per_image[image["id"]]})
    return records


def _annotation(annotation: dict[str, Any], index: dict[int, int], path: Path) -> dict[str, Any]:
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(value, int | float) for value in box):
        raise UserError(f"{path}: annotation {annotation['id']} has no box of four numbers.")
    entry = {key: annotation[key] for key in _KEPT if key in annotation}
    entry |= {"category_id": index[annotation["category_id"]], "bbox_mode": BoxMode.XYWH_ABS}
    mask = annotation.get("segmentation")
    if isinstance(mask, list):  # polygons of fewer than three points are none
        mask = [polygon for polygon in mask if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if mask:
        entry["segmentation"] = mask
    return entry
