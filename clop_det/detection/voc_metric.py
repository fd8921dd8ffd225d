"""Pascal VOC's average precision, 11-point and area, over all overlaps at once; no loop over detections.

The figures equal those of Detectron2's PascalVOCDetectionEvaluator, whose conventions they share: scores rounded to
three decimals and boxes to one, pixel indices from 1 with corners included, a detection belongs to the box that it
overlaps most, whatever the threshold, and a class without ground truth counts as 0.
Source: Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clop_det.detection.ground_truth import Array, Detections, GroundTruth

THRESHOLDS = tuple(t / 100.0 for t in range(50, 100, 5))
_LEVELS = np.arange(0.0, 1.1, 0.1)


@dataclass(frozen=True)
class Curve:
    """Recall and precision of one class at one overlap, by falling score."""

    recall: Array
    precision: Array


def voc_metrics(truth: GroundTruth, found: Detections) -> tuple[dict[str, dict[str, float]], list[Curve]]:
    """AP in percent, by both of VOC's rules, and the curves at overlap 0.5.

    Returns:
        {"voc07": {...}, "voc12": {...}} (11-point and area), each with AP (mean over overlaps .50 to .95), AP50, AP75
        and AP-<class>; and the K curves.
    """
    tables = {"voc07": np.zeros((len(truth.classes), len(THRESHOLDS)))}
    tables["voc12"] = tables["voc07"].copy()
    curves = []
    for k in range(len(truth.classes)):
        per_threshold = class_curves(truth, found, k)
        curves.append(per_threshold[0])
        for t, curve in enumerate(per_threshold):
            tables["voc07"][k, t] = eleven_point(curve) * 100
            tables["voc12"][k, t] = area(curve) * 100
    return {name: _summary(table, truth.classes) for name, table in tables.items()}, curves


def _summary(table: Array, classes: tuple[str, ...]) -> dict[str, float]:
    mean = table.mean(axis=0)
    figures = {"AP": mean.mean(), "AP50": mean[0], "AP75": mean[5]}
    figures |= {f"AP-{name}": row.mean() for name, row in zip(classes, table, strict=True)}
    return {name: float(value) for name, value in figures.items()}


def class_curves(truth: GroundTruth, found: Detections, category: int) -> list[Curve]:
    """Precision-recall curves of one class, one per overlap in `THRESHOLDS`."""
    mine = truth.category == category
    ignored = truth.ignore[mine] | truth.crowd[mine]
    positives = int((~ignored).sum())
    chosen = _ranked(found, category)
    shift = np.array([1.0, 1.0, 0.0, 0.0], dtype=np.float32)
    boxes = as_written((found.box[chosen].astype(np.float32) + shift).astype(np.float64), 1)
    best, owner = best_overlaps(boxes, found.image[chosen], truth.box[mine] + [1.0, 1.0, 0.0, 0.0], truth.image[mine])
    curves = []
    for threshold in THRESHOLDS:
        hit = best > threshold
        first = np.zeros(len(chosen), dtype=bool)
        # Sorted by score, so the first occurrence of a box is the detection that gets it.
        where = np.flatnonzero(hit)
        first[where[np.unique(owner[where], return_index=True)[1]]] = True
        counted = hit.copy()
        counted[hit] = ~ignored[owner[hit]]
        true = np.cumsum(counted & first, dtype=np.float64)
        false = np.cumsum((counted & ~first) | ~hit, dtype=np.float64)
        recall = true / positives if positives else np.zeros_like(true)
        curves.append(Curve(recall, true / np.maximum(true + false, np.finfo(np.float64).eps)))
    return curves


def voc_order(found: Detections, classes: int) -> Array:
    """(D,) place of each detection among those of its class, best first.

    Rounded scores are often equal, and how numpy's sort leaves equal ones depends on the processor: a figure that is
    to be computed again elsewhere needs the order.
    """
    order = np.zeros(len(found), dtype=np.int64)
    for category in range(classes):
        ranked = _ranked(found, category)
        order[ranked] = np.arange(len(ranked))
    return order


def _ranked(found: Detections, category: int) -> Array:
    """Indices of the detections of a class, best first."""
    chosen = np.flatnonzero(found.category == category)
    if found.order is not None:
        return chosen[np.argsort(found.order[chosen])]  # type: ignore[no-any-return]
    scores = as_written(found.score[chosen], 3)
    return chosen[np.argsort(-scores)]  # type: ignore[no-any-return]  # the very sort of Detectron2, which decides ties


def as_written(values: Array, decimals: int) -> Array:
    """What printing with so many decimals and reading again would give: VOC's results pass through text files."""
    scaled = values * 10.0**decimals
    rounded: Array = np.rint(scaled) / 10.0**decimals
    # Near a tie the product's own rounding may decide; let the printing routine do it.
    for i in np.flatnonzero(np.abs(scaled - np.floor(scaled) - 0.5) < 1e-6):
        rounded.flat[i] = float(f"{values.flat[i]:.{decimals}f}")
    return rounded


def best_overlaps(boxes: Array, image: Array, truth: Array, truth_image: Array) -> tuple[Array, Array]:
    """For each of D boxes, the largest overlap with a true box of its image (-inf: none), and that box's index.

    Args:
        boxes: (D, 4), corners included.
        image: (D,).
        truth: (G, 4), corners included.
        truth_image: (G,), not falling.
    """
    best = np.full(len(boxes), -np.inf)
    owner = np.zeros(len(boxes), dtype=np.int64)
    start = np.searchsorted(truth_image, image, side="left")
    counts = np.searchsorted(truth_image, image, side="right") - start
    having = np.flatnonzero(counts)
    if not len(having):
        return best, owner
    counts, start = counts[having], start[having]
    ends = np.cumsum(counts)
    begins = ends - counts
    detection = np.repeat(having, counts)
    candidate = np.arange(ends[-1]) - np.repeat(begins - start, counts)
    overlap = _overlap(boxes[detection], truth[candidate])
    best[having] = np.maximum.reduceat(overlap, begins)
    # The first of equals, as argmax takes it.
    position = np.where(overlap == np.repeat(best[having], counts), candidate, len(truth))
    owner[having] = np.minimum.reduceat(position, begins)
    return best, owner


def _overlap(a: Array, b: Array) -> Array:
    width = np.maximum(np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0]) + 1.0, 0.0)
    height = np.maximum(np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1]) + 1.0, 0.0)
    shared = width * height
    sizes = [(c[:, 2] - c[:, 0] + 1.0) * (c[:, 3] - c[:, 1] + 1.0) for c in (a, b)]
    return shared / (sizes[0] + sizes[1] - shared)  # type: ignore[no-any-return]


def eleven_point(curve: Curve) -> float:
    """VOC 2007: the mean over recalls 0, 0.1, ..., 1 of the best precision at that recall or above."""
    reached = curve.recall[None, :] >= _LEVELS[:, None]
    return float(np.where(reached, curve.precision[None, :], 0.0).max(axis=1, initial=0.0).sum() / 11.0)


def area(curve: Curve) -> float:
    """VOC 2010 and later: the area under the precision envelope."""
    recall = np.concatenate(([0.0], curve.recall, [1.0]))
    envelope = np.maximum.accumulate(np.concatenate(([0.0], curve.precision, [0.0]))[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    return float(((recall[steps + 1] - recall[steps]) * envelope[steps + 1]).sum())
