"""The checks of dataset dicts: image files, sizes, EXIF, boxes, masks; kinds in `annotations.checks`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.structures import BoxMode

from clop_det.annotations.checks import Checks, ImageFacts, facts_of
from clop_det.annotations.checks.image_facts import MISSING, TRUNCATED, UNREADABLE
from clop_det.annotations.images import AS_STORED, DEEP
from clop_det.annotations.segmentation import usable_part
from clop_det.data.decoding import oversize

Record = dict[str, Any]
_FAULTS = {MISSING: "missing_file", UNREADABLE: "unreadable_image", TRUNCATED: "truncated_image"}
_SAID = {
    MISSING: "does not exist",
    UNREADABLE: "is no image, or of an unknown format",
    TRUNCATED: "is truncated: the file ends too early",
}
_MODES = {
    **dict.fromkeys(("P", "PA"), "palette_image"),
    **dict.fromkeys(("RGBA", "LA", "La", "RGBa"), "alpha_image"),
    **dict.fromkeys(("L", "1"), "grey_image"),
    **dict.fromkeys(("CMYK", "YCbCr", "LAB", "HSV"), "cmyk_image"),
}
_FORMATS = {
    ".jpg": ("JPEG", "MPO"),
    ".jpeg": ("JPEG", "MPO"),
    ".png": ("PNG",),
    ".bmp": ("BMP", "DIB"),
    ".webp": ("WEBP",),
    ".gif": ("GIF",),
    ".tif": ("TIFF",),
    ".tiff": ("TIFF",),
}
_ROUNDING = 1.0  # pixels by which a box may leave its image before that is worth a word


def check_records(records: Sequence[Record], checks: Checks) -> list[Record]:
    """Check image files and boxes of dataset dicts; what the policies drop is left out.

    Args:
        records: in Detectron2's standard format; they may be changed. `height` and `width` may be 0 or absent.
        checks: takes what is found; `images` and `annotations` are set to what is left.
    """
    facts = facts_of([record["file_name"] for record in records])
    kept = [record for record, known in zip(records, facts, strict=True) if _check_image(record, known, checks)]
    for record in kept:
        _check_annotations(record, checks)
    checks.images = len(kept)
    checks.annotations = sum(len(record["annotations"]) for record in kept)
    return kept


def _check_image(record: Record, facts: ImageFacts, checks: Checks) -> bool:
    path = record["file_name"]
    if facts.fault:
        checks.found(_FAULTS[facts.fault], f"{path} {_SAID[facts.fault]}")
        return False
    if said := oversize(facts.width, facts.height):
        checks.found("oversized_image", f"{path}: {said}")
        return False
    suffix = path[path.rfind(".") :].lower()
    if facts.format not in _FORMATS.get(suffix, (facts.format,)) and not checks.found(
        "format_mismatch", f"{path} holds {facts.format} data"
    ):
        return False
    return _check_mode(record, facts, checks) and _check_size(record, facts, checks)


def _check_mode(record: Record, facts: ImageFacts, checks: Checks) -> bool:
    path = record["file_name"]
    if facts.mode.startswith("F"):
        return checks.found("float_image", f"{path} holds floating-point numbers (mode {facts.mode})")
    if facts.deep:
        record[DEEP] = True
        return checks.found("deep_image", f"{path} has more than 8 bits a channel (mode {facts.mode})")
    kind = _MODES.get(facts.mode)
    return kind is None or checks.found(kind, f"{path} is of mode {facts.mode}")


def _check_size(record: Record, facts: ImageFacts, checks: Checks) -> bool:
    path, upright, stored = record["file_name"], facts.upright_size, (facts.width, facts.height)
    given = (int(record.get("width") or 0), int(record.get("height") or 0))
    use_stored = facts.orientation != 1 and given == stored and upright != stored
    if facts.orientation != 1:
        how = "left as stored, as its annotation says" if use_stored else "turned upright"
        if not checks.found("exif_rotation", f"{path}: EXIF orientation {facts.orientation}, {how}"):
            return False
    size = stored if use_stored else upright
    if use_stored:
        record[AS_STORED] = True
    if given != size:
        told = f"{given[0]} x {given[1]}, the image is {size[0]} x {size[1]}"
        kind = "size_mismatch" if min(given) > 0 else "no_size"
        if kind == "size_mismatch" and given == size[::-1]:
            told += " (width and height exchanged)"
        if not checks.found(kind, f"{path}: its annotation says {told}"):
            return False
    record["width"], record["height"] = size
    return True


def _check_annotations(record: Record, checks: Checks) -> None:
    record["annotations"] = [entry for entry in record["annotations"] if _check_annotation(entry, record, checks)]


def _check_annotation(entry: dict[str, Any], record: Mapping[str, Any], checks: Checks) -> bool:
    where = _place(entry, record)
    if not all(math.isfinite(value) for value in entry["bbox"]):
        checks.found("nonfinite_box", f"{where} is not finite")
        return False
    box = [float(v) for v in BoxMode.convert(list(entry["bbox"]), entry["bbox_mode"], BoxMode.XYXY_ABS)]
    before = list(box)
    if box[2] < box[0] or box[3] < box[1]:
        if not checks.found("inverted_box", f"{where} ends before it begins"):
            return False
        box = [min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])]
    if box[2] == box[0] or box[3] == box[1]:
        checks.found("degenerate_box", f"{where} has no width or no height")
        return False
    clipped = _inside(box, record["width"], record["height"])
    if max(abs(a - b) for a, b in zip(box, clipped, strict=True)) > _ROUNDING:
        beyond = f"{where} leaves the image of {record['width']} x {record['height']}"
        if not checks.found("out_of_image_box", beyond) or clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
            return False
        box = clipped
    if not _check_mask(entry, record, where, checks):
        return False
    if box != before:
        # Boxes that need nothing stay as written, to the last digit.
        entry["bbox"] = BoxMode.convert(box, BoxMode.XYXY_ABS, entry["bbox_mode"])
        if "area" in entry and "segmentation" not in entry:
            entry["area"] = (box[2] - box[0]) * (box[3] - box[1])
    return True


def _check_mask(entry: dict[str, Any], record: Mapping[str, Any], where: str, checks: Checks) -> bool:
    mask, whole = usable_part(entry.pop("segmentation", None), record["height"], record["width"])
    if mask is not None:
        entry["segmentation"] = mask
    return whole or checks.found("bad_polygon", f"{where} has a polygon or mask that cannot be one")


def keep_masked(records: Sequence[Record], checks: Checks) -> list[Record]:
    """Dataset dicts without the boxes that a detector of masks cannot learn from: no crowd, and no mask.

    Args:
        records: as `check_records` gives them.
        checks: of the same records; takes what is found, and `annotations` is set to what is left.
    """
    kept = [
        {**record, "annotations": [entry for entry in record["annotations"] if _has_mask(entry, record, checks)]}
        for record in records
    ]
    checks.annotations = sum(len(record["annotations"]) for record in kept)
    return kept


def _has_mask(entry: Mapping[str, Any], record: Mapping[str, Any], checks: Checks) -> bool:
    if entry.get("iscrowd", 0) or "segmentation" in entry:
        return True
    return checks.found("no_mask", f"{_place(entry, record)} has no mask to train on")


def _place(entry: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    number = f"annotation {entry['id']}, " if "id" in entry else ""
    return f"{record['file_name']}, {number}box {_numbers(entry['bbox'])}"


def _inside(box: Sequence[float], width: float, height: float) -> list[float]:
    return [min(max(value, 0.0), float(limit)) for value, limit in zip(box, (width, height) * 2, strict=True)]


def _numbers(box: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"
