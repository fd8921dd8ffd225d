"""The checks of boxes, all at once: what is finite, lies in its image, is there once and is written as it should be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from detectron2.structures import BoxMode

from clop_det.annotations.checked_masks import usable_masks
from clop_det.annotations.checks import Checks
from clop_det.annotations.table import VOC, Array, Table

_ROUNDING = 1.0  # pixels by which a box may leave its image before that is worth a word
_NEAR = 0.05  # share of its sides by which a box may differ from another that means the same
_LIKELY = 0.95  # share of the boxes that another reading must fit to be the likely one


def check_boxes(table: Table, classes: Sequence[str], checks: Checks) -> Table:
    """Check the boxes of images whose sizes are known; what the policies drop is left out.

    Args:
        table: may be changed.
        classes: names of the classes.
        checks: takes what is found.
    """
    table, box = _check_shape(table, table.boxes.corners(), checks)
    table, box = _check_place(table, box, checks)
    table, whole = usable_masks(table)
    table, box = _judge(table, box, ~whole, "bad_polygon", checks, "has a polygon or mask that cannot be one")
    _write(table, box)
    table, box = _check_area(table, box, checks)
    table = _check_twice(table, box, checks)
    return _check_twins(table, classes, checks)


def place_of(table: Table, row: int) -> str:
    """Where an annotation stands, for messages: file, id and box as written."""
    boxes = table.boxes
    number = f"annotation {boxes.number[row]}, " if table.form != VOC and boxes.number[row] is not None else ""
    box = ", ".join(f"{value:g}" for value in boxes.box[row])
    return f"{table.images.file[boxes.owner[row]]}, {number}box [{box}]"


def _judge(
    table: Table, box: Array, bad: Array, kind: str, checks: Checks, text: str | Callable[[int], str]
) -> tuple[Table, Array]:
    """Note the rows `bad` (A,) of a kind, and leave them out if the policy says so."""
    rows = np.flatnonzero(bad).tolist()
    keeps = [
        checks.found(kind, f"{place_of(table, row)} {text if isinstance(text, str) else text(row)}") for row in rows
    ]
    if all(keeps):
        return table, box
    return table.take(~bad), box[~bad]


def _check_shape(table: Table, box: Array, checks: Checks) -> tuple[Table, Array]:
    finite = np.asarray(np.isfinite(table.boxes.box).all(axis=1))
    table, box = _judge(table, box, ~finite, "nonfinite_box", checks, "is not finite")
    inverted = (box[:, 2] < box[:, 0]) | (box[:, 3] < box[:, 1])
    table, box = _judge(table, box, inverted, "inverted_box", checks, "ends before it begins")
    box = np.concatenate([np.minimum(box[:, :2], box[:, 2:]), np.maximum(box[:, :2], box[:, 2:])], axis=1)
    flat = (box[:, 2] == box[:, 0]) | (box[:, 3] == box[:, 1])
    return _judge(table, box, flat, "degenerate_box", checks, "has no width or no height")


def _sizes(table: Table) -> Array:
    """(A, 4) width, height, width, height of the image of each box."""
    owner = table.boxes.owner
    return np.stack([table.images.width[owner], table.images.height[owner]] * 2, axis=1).astype(np.float64)


def _check_place(table: Table, box: Array, checks: Checks) -> tuple[Table, Array]:
    first = np.array([1, 1, 0, 0]) if table.form == VOC else 0  # VOC's pixels count from 1
    written = box + first
    shares = np.asarray(((written >= 0) & (written <= 1 + 1e-6)).all(axis=1) & (written % 1 != 0).any(axis=1))
    text = "lies within the first pixel"
    kept, box = _judge(table, box, shares, "normalised_box", checks, text)
    if len(kept.boxes.owner) == len(shares) and shares.any():
        box[shares] = written[shares] * _sizes(kept)[shares]
    table = kept
    size = _sizes(table)
    inside = np.clip(box, 0, size)
    leaves = np.abs(box - inside).max(axis=1, initial=0) > _ROUNDING
    if leaves.any():
        _guess_corners(table, size, checks)

    def beyond(row: int) -> str:
        return f"leaves the image of {int(size[row, 0])} x {int(size[row, 1])}"

    kept, box = _judge(table, box, leaves, "out_of_image_box", checks, beyond)
    if len(kept.boxes.owner) < len(leaves):
        return kept, box
    box[leaves] = inside[leaves]
    void = leaves & ((inside[:, 2] <= inside[:, 0]) | (inside[:, 3] <= inside[:, 1]))
    return table.take(~void), box[~void]


def _guess_corners(table: Table, size: Array, checks: Checks) -> None:
    """Say so if x, y, width and height would fit better as x1, y1, x2, y2."""
    written = table.boxes.box
    fit = np.asarray((written[:, 2:] > written[:, :2]).all(axis=1) & (written <= size + _ROUNDING).all(axis=1))
    if (table.boxes.mode == int(BoxMode.XYWH_ABS)).all() and fit.mean() >= _LIKELY:
        checks.causes["out_of_image_box"] = (
            f"{int(fit.sum())} of {len(fit)} boxes lie in their images if their numbers are [x1, y1, x2, y2] instead of"
            " [x, y, width, height]; if so, BOXES: xyxy in the entry of DATASETS.REGISTER reads them so"
        )


def _write(table: Table, box: Array) -> None:
    """Put repaired boxes into the table; boxes that need nothing stay as written, to the last digit."""
    boxes = table.boxes
    changed = np.flatnonzero((box != boxes.corners()).any(axis=1))
    if not len(changed):
        return
    boxes.box = boxes.box.copy()
    boxes.box[changed] = box[changed]
    extent = (box[changed, 2:] - box[changed, :2]).prod(axis=1)
    rows = changed[boxes.mode[changed] == int(BoxMode.XYWH_ABS)]
    boxes.box[rows, 2:] = (box[rows, 2:].astype(np.float32) - box[rows, :2].astype(np.float32)).astype(np.float64)
    boxes.area = boxes.area.copy()
    new = ~np.isnan(boxes.area[changed]) & ~boxes.masked[changed]
    boxes.area[changed[new]] = extent[new]


def _check_area(table: Table, box: Array, checks: Checks) -> tuple[Table, Array]:
    none = (table.boxes.area == 0) & ((box[:, 2:] - box[:, :2]).prod(axis=1) >= 1)
    if (table.boxes.area[~np.isnan(table.boxes.area)] == 0).all():  # the file has no areas: as good as absent
        checks.causes["zero_area"] = ""
    table, box = _judge(table, box, none, "zero_area", checks, "has the area 0")
    if len(table.boxes.owner) == len(none) and none.any():
        table.boxes.area = np.where(none, np.nan, table.boxes.area)
    return table, box


def _check_twice(table: Table, box: Array, checks: Checks) -> Table:
    """Boxes that are there again, to the last digit or nearly."""
    same, near = _pairs(table, box)
    keep = np.ones(len(box), dtype=bool)
    for kind, pairs, text in (("repeated_box", same, "is the same as"), ("near_box", near, "is nearly that of")):
        for row, other in sorted(pairs.items()):
            whose = "another" if table.form == VOC else f"annotation {table.boxes.number[other]}"
            keep[row] = checks.found(kind, f"{place_of(table, row)} {text} {whose}")
    return table.take(keep)


def _pairs(table: Table, box: Array) -> tuple[dict[int, int], dict[int, int]]:
    """Row -> an earlier row of the same image and class with the same box and mask, and with nearly the same box."""
    boxes = table.boxes
    group = boxes.owner.astype(np.int64) * (int(boxes.category.max(initial=0)) + 1) + boxes.category
    group = 2 * group + (boxes.crowd > 0)
    order = np.lexsort((box[:, 3], box[:, 2], box[:, 1], box[:, 0], group))
    group, box = group[order], box[order]
    room = _NEAR * np.tile(box[:, 2:] - box[:, :2], 2)
    same: dict[int, int] = {}
    near: dict[int, int] = {}
    left, step = np.arange(len(order)), 0
    while len(left):  # each box against the next, the next but one, ..., as long as their left edges are near
        step += 1
        left = left[left + step < len(order)]
        right = left + step
        left = left[(group[right] == group[left]) & (box[right, 0] - box[left, 0] <= room[left, 0])]
        close = left[(np.abs(box[left + step] - box[left]) <= room[left]).all(axis=1)]
        for a, b in zip(close.tolist(), (close + step).tolist(), strict=True):
            first, second = sorted((int(order[a]), int(order[b])))
            equal = (box[a] == box[b]).all() and table.mask(first) == table.mask(second)
            (same if equal else near).setdefault(second, first)
    return same, {row: same.get(other, other) for row, other in near.items() if row not in same}


def _check_twins(table: Table, classes: Sequence[str], checks: Checks) -> Table:
    """Classes whose names differ in case or blanks alone; the one with the most boxes is the one that is meant."""
    twins: dict[str, list[int]] = defaultdict(list)
    for k, name in enumerate(classes):
        twins["".join(name.split()).casefold()].append(k)
    counts = np.bincount(table.boxes.category, minlength=len(classes))
    for several in (group for group in twins.values() if len(group) > 1):
        most = max(several, key=lambda k: int(counts[k]))
        rare = [k for k in several if k != most and counts[k]]
        if not rare:
            continue
        said = " and ".join(f"{classes[k]!r} ({counts[k]} boxes)" for k in (*rare, most))
        text = f"the classes {said} of {checks.name} differ in upper and lower case or in blanks alone"
        if not checks.found("twin_class", text, int(counts[rare].sum())):
            table = table.take(~np.isin(table.boxes.category, rare))
    return table
