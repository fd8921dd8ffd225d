"""COCO's segmentations: the part of one that Detectron2 and pycocotools both can take, and its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from numpy.typing import NDArray


def usable_part(mask: Any, height: int, width: int) -> tuple[Any, bool]:
    """What of a segmentation can be used, and whether that is the whole of it.

    Args:
        mask: as annotated: polygons, a run-length code with its counts as text or as a list, or nothing.
        height, width: of the image in pixels.

    Returns:
        polygons of three points and more, or the run-length code with its counts as text; None if nothing can be used.
        True if nothing was left out: an absent or empty segmentation lacks nothing.
    """
    if isinstance(mask, dict):
        code = _run_length_code(mask, height, width)
        return code, code is not None
    if not isinstance(mask, list):
        return None, mask is None
    polygons = [polygon for polygon in mask if is_polygon(polygon, height, width)]
    return polygons or None, len(polygons) == len(mask)


def smallest_box(mask: Any) -> list[float] | None:
    """x, y, width and height of the smallest box around a segmentation as annotated; None if it has none."""
    if isinstance(mask, dict):
        size = mask.get("size")
        whole = isinstance(size, list) and len(size) == 2 and all(isinstance(s, int) and 0 < s < 1 << 16 for s in size)
        code = _run_length_code(mask, size[0], size[1]) if whole and size else None
        return None if code is None else [float(value) for value in mask_util.toBbox(code)]
    polygons = [np.asarray(polygon) for polygon in mask if _is_polygon(polygon)] if isinstance(mask, list) else []
    if not polygons:
        return None
    points = np.concatenate([polygon.reshape(-1, 2) for polygon in polygons])
    low, high = points.min(axis=0), points.max(axis=0)
    return [float(value) for value in (*low, *(high - low))]


def mask_pixels(mask: Any, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels (height, width) of what `usable_part` gave; none of them for None."""
    if mask is None:
        return np.zeros((height, width), dtype=bool)
    code = mask if isinstance(mask, dict) else mask_util.merge(mask_util.frPyObjects(mask, height, width))
    return np.asarray(mask_util.decode(code), dtype=bool)


def is_polygon(polygon: Any, height: int, width: int) -> bool:
    """Whether these are three points and more, none farther outside the image than the image is long.

    pycocotools walks along an edge pixel by pixel, and takes memory for each: an edge of 1e9 pixels ends the process.
    """
    if not _is_polygon(polygon):
        return False
    points = np.asarray(polygon).reshape(-1, 2)
    size = np.array([width, height])
    return bool(((points >= -size) & (points <= 2 * size)).all())


def _is_polygon(polygon: Any) -> bool:
    if not isinstance(polygon, list | tuple | np.ndarray) or len(polygon) < 6 or len(polygon) % 2:
        return False
    try:
        values = np.asarray(polygon)
    except ValueError:  # lists of several lengths
        return False
    return values.ndim == 1 and values.dtype.kind in "iuf" and bool(np.isfinite(values).all())


def _run_length_code(mask: dict[str, Any], height: int, width: int) -> dict[str, Any] | None:
    """The code with its counts as text, if its runs fill an image of this size exactly."""
    size, counts = mask.get("size"), mask.get("counts")
    if not isinstance(size, list | tuple) or list(size) != [height, width]:
        return None
    runs: Sequence[Any] = counts if isinstance(counts, list) else _runs(counts)
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != height * width:
        return None
    if isinstance(counts, list):
        counts = mask_util.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"]
    return {"size": [height, width], "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def _runs(counts: Any) -> Sequence[int]:
    """Lengths of the runs in the text of a run-length code; empty if it is none.

    pycocotools does not check them: a code that fills less than its image decodes to whatever lies in the memory.
    """
    if isinstance(counts, str):
        counts = counts.encode("utf-8", "surrogatepass")
    if not isinstance(counts, bytes) or not all(48 <= character < 112 for character in counts):
        return ()
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = character - 48  # five bits of the number, the lowest first, and a flag: more to come
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # the sign
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    return () if shift else runs
