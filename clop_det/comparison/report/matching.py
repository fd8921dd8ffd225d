"""Which detections are right, and from which score on a detector is at its best."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clop_det.detection.stored import DETECTIONS, TRUTH, Tested, read_tested
from clop_det.errors import UserError
from clop_det.files import check_ordinary

_MATCH = 0.5  # IoU
_MOST_BYTES = 256 << 20


def judge(
    detections: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]], score: float
) -> tuple[list[tuple[dict[str, Any], bool]], list[dict[str, Any]]]:
    """Match detections of at least `score`, best first, to ground truth of their class.

    Returns:
        (detection, whether it is right) for each, and the ground truth that nothing matched. A ground-truth box is
        matched once, by the best-scored detection that overlaps it with IoU >= 0.5.
    """
    free = list(truth)
    judged = []
    for detection in sorted(detections, key=lambda item: -item["score"]):
        if detection["score"] < score:
            continue
        same = [item for item in free if item["label"] == detection["label"]]
        best = max(same, key=lambda item: iou(item["box"], detection["box"]), default=None)
        right = best is not None and iou(best["box"], detection["box"]) >= _MATCH
        if right:
            free = [item for item in free if item is not best]
        judged.append((detection, right))
    return judged, free


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def best_of_run(run: Path) -> tuple[float, float] | None:
    """`best_score` on the (first) test set of a run; None if it has kept no detections that can be read."""
    truths = sorted(run.glob(f"{TRUTH}*.json"))
    if not truths:
        return None
    found = truths[0].with_name(f"{DETECTIONS}{truths[0].stem.removeprefix(TRUTH)}.csv")
    try:
        for path in (truths[0], found):
            check_ordinary(path)
            if path.stat().st_size > _MOST_BYTES:
                return None
        return best_score(read_tested(truths[0].read_bytes(), found.read_bytes()))
    except (OSError, UserError):
        return None


def best_score(tested: Tested) -> tuple[float, float] | None:
    """(score, F1): drawing detections from this score on gives the highest F1 over the whole test set, IoU 0.5.

    F1 is 2 TP / (detections + boxes) over all classes together; of equal ones the highest score counts. None: no box,
    or nothing is right at any score.
    """
    truth, found = tested.truth, tested.found
    boxes: list[list[dict[str, Any]]] = [[] for _ in truth.sizes]
    detections: list[list[dict[str, Any]]] = [[] for _ in truth.sizes]
    counted = ~(truth.ignore | truth.crowd)
    for image, label, box in zip(truth.image[counted], truth.category[counted], truth.box[counted], strict=True):
        boxes[image].append({"box": box.tolist(), "label": int(label)})
    for image, label, box, score in zip(found.image, found.category, found.box, found.score, strict=True):
        detections[image].append({"box": box.tolist(), "label": int(label), "score": float(score)})
    judged = [item for own, real in zip(detections, boxes, strict=True) for item in judge(own, real, 0.0)[0]]
    judged.sort(key=lambda item: -item[0]["score"])
    best, right, total = (0.0, 0.0), 0, int(counted.sum())
    for number, ((detection, is_right), following) in enumerate(itertools.zip_longest(judged, judged[1:]), 1):
        right += is_right
        last = following is None or following[0]["score"] < detection["score"]
        if last and (f1 := 2 * right / (number + total)) > best[1]:
            best = detection["score"], f1
    return best if best[1] > 0 else None
