"""The checks of masks: polygons all at once, run-length codes and odd masks one by one."""

from __future__ import annotations

import numpy as np

from clop_det.annotations.segmentation import is_polygon, usable_part
from clop_det.annotations.table import Array, Shapes, Table


def usable_masks(table: Table) -> tuple[Table, Array]:
    """The table with what of its masks can be used, and (A,) bool: whether a mask was whole."""
    whole = np.ones(len(table.boxes.owner), dtype=bool)
    _drop_polygons(table, whole)
    return _settle_pending(table, whole), whole


def _drop_polygons(table: Table, whole: Array) -> None:
    """Leave out the polygons that are none."""
    boxes, shapes = table.boxes, table.shapes
    rows = np.flatnonzero(boxes.polygons)
    polygon = np.concatenate([np.arange(0)] + [boxes.first[rows] + k for k in range(_most(boxes.polygons))])
    owner = np.concatenate([np.arange(0)] + [rows] * _most(boxes.polygons))
    real = np.concatenate([np.zeros(0, bool)] + [boxes.polygons[rows] > k for k in range(_most(boxes.polygons))])
    polygon, owner = polygon[real], owner[real]
    height, width = (side[boxes.owner[owner]] for side in (table.images.height, table.images.width))
    low, high = _extent(shapes)
    short = np.minimum(height, width)
    length = shapes.length[polygon]
    # Far within any limit on either axis: no need to look closer.
    sound = (length >= 6) & (length % 2 == 0) & (low[polygon] >= -short) & (high[polygon] <= 2 * short)
    for k in np.flatnonzero(~sound).tolist():
        start = shapes.start[polygon[k]]
        sound[k] = is_polygon(shapes.xy[start : start + length[k]], int(height[k]), int(width[k]))
    if sound.all():
        return
    whole[owner[~sound]] = False
    usable = np.ones(len(shapes.length), dtype=bool)
    usable[polygon[~sound]] = False
    before = np.concatenate([[0], np.cumsum(usable)])
    boxes.polygons = (before[boxes.first + boxes.polygons] - before[boxes.first]).astype(boxes.polygons.dtype)
    boxes.first = before[boxes.first]
    table.shapes = Shapes(shapes.start[usable], shapes.length[usable], shapes.xy, shapes.codes)


def _most(counts: Array) -> int:
    return int(counts.max(initial=0))


def _extent(shapes: Shapes) -> tuple[Array, Array]:
    """(Q,) smallest and largest coordinate of every polygon; NaN in polygons of none."""
    low, high = (np.full(len(shapes.length), np.nan) for _ in range(2))
    filled = np.flatnonzero(shapes.length)
    if len(filled):
        low[filled] = np.minimum.reduceat(shapes.xy, shapes.start[filled])
        high[filled] = np.maximum.reduceat(shapes.xy, shapes.start[filled])
    return low, high


def _settle_pending(table: Table, whole: Array) -> Table:
    """Turn masks that are no lists of polygons into polygons or run-length codes."""
    boxes, shapes = table.boxes, table.shapes
    codes: list[bytes] = []
    lengths: list[int] = []
    added: list[Array] = []
    size = 0
    boxes.first, boxes.polygons = boxes.first.copy(), boxes.polygons.copy()
    for row in np.flatnonzero(boxes.code < 0).tolist():
        image = boxes.owner[row]
        height, width = int(table.images.height[image]), int(table.images.width[image])
        mask, whole[row] = usable_part(table.pending[-1 - boxes.code[row]], height, width)
        boxes.code[row] = size
        if isinstance(mask, dict):
            codes.append(mask["counts"].encode("ascii"))
            boxes.code_size[row] = len(codes[-1])
            size += len(codes[-1])
        elif mask:
            boxes.first[row], boxes.polygons[row] = len(shapes.length) + len(lengths), len(mask)
            lengths += [len(polygon) for polygon in mask]
            added += [np.asarray(polygon, dtype=np.float64) for polygon in mask]
    if added:
        length = np.concatenate([shapes.length, np.array(lengths, dtype=np.int64)])
        start = np.concatenate([shapes.start, len(shapes.xy) + np.cumsum(lengths) - lengths])
        shapes = Shapes(start, length, np.concatenate([shapes.xy, *added]), shapes.codes)
    shapes.codes = np.frombuffer(b"".join(codes), dtype=np.uint8)
    return Table(table.images, boxes, shapes, table.form, table.given)
