"""COCO's average precision (101 recall points) for any test set, COCO or VOC, from the same flat arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pycocotools.mask as mask_util

from clop_det.detection.coco_backends import CocoBackend, coco_backend
from clop_det.detection.ground_truth import Array, Detections, GroundTruth

_AREAS = {"APs": 1, "APm": 2, "APl": 3}
# Outside every range of areas that COCO evaluates (the widest ends at 1e10): such a box counts neither as found nor as
# missed, which is what VOC's `difficult` means. (`iscrowd` would also take any number of detections.)
_NO_AREA = 1e11


def coco_metrics(
    truth: GroundTruth, found: Detections, task: str = "bbox", backend: CocoBackend | None = None, most: int = 100
) -> dict[str, float]:
    """AP in percent: AP, AP50, AP75, APs, APm, APl and AP-<class>; what has no ground truth is left out.

    Args:
        task: "bbox" or "segm". For "segm" a true box without a mask is a region in which nothing counts, neither as
            found nor as missed: its rectangle is no mask.
        backend: pycocotools by default.
        most: detections of a class in an image that are scored, the best first.
    """
    if not len(found):
        found = _one_miss(truth)
    backend = backend or coco_backend("pycocotools")
    # (overlaps, recalls, classes, areas, limits); area 0 is all areas.
    precision = backend.precision(reference(truth, task), _results(found, task), task, most)[..., -1]
    figures = {"AP": _mean(precision[..., 0]), "AP50": _mean(precision[0, ..., 0]), "AP75": _mean(precision[5, ..., 0])}
    figures |= {name: _mean(precision[..., area]) for name, area in _AREAS.items()}
    figures |= {f"AP-{name}": _mean(precision[:, :, k, 0]) for k, name in enumerate(truth.classes)}
    return {name: value for name, value in figures.items() if value >= 0}


def _one_miss(truth: GroundTruth) -> Detections:
    """One detection that hits nothing: the same figures as none, which the backends do not take."""
    height, width = truth.sizes[0]
    nothing = mask_util.encode(np.zeros((height, width), dtype=np.uint8, order="F"))
    first, box = np.zeros(1, dtype=np.int64), np.array([[-2.0, -2.0, -1.0, -1.0]])
    return Detections(first, first, box, np.zeros(1), [nothing])


def _mean(precision: Array) -> float:
    """Percent; -1 if nothing is defined."""
    values = precision[precision > -1]
    return float(values.mean()) * 100 if values.size else -1.0


def reference(truth: GroundTruth, task: str) -> dict[str, Any]:
    """The ground truth in COCO's JSON layout; for "segm" with masks, see `coco_metrics`."""
    annotations = []
    for k in range(len(truth.category)):
        x1, y1, x2, y2 = truth.box[k].tolist()
        entry: dict[str, Any] = {
            "id": k + 1,  # pycocotools takes the id 0 for "no match"
            "image_id": int(truth.image[k]),
            "category_id": int(truth.category[k]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": _NO_AREA if truth.ignore[k] else float(truth.area[k]),
            "iscrowd": int(truth.crowd[k]),
        }
        if task == "segm":
            mask = truth.masks[k]
            entry["segmentation"] = mask or [[x1, y1, x2, y1, x2, y2, x1, y2]]
            # A crowd takes any number of detections that lie in it.
            entry["iscrowd"] = int(truth.crowd[k] or not mask)
        annotations.append(entry)
    return {
        "info": {},
        "images": [{"id": i, "height": height, "width": width} for i, (height, width) in enumerate(truth.sizes)],
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(truth.classes)],
    }


def _results(found: Detections, task: str) -> list[dict[str, Any]]:
    boxes = np.concatenate([found.box[:, :2], found.box[:, 2:] - found.box[:, :2]], axis=1).tolist()
    results = [
        {"image_id": i, "category_id": c, "bbox": box, "score": score}
        for i, c, box, score in zip(
            found.image.tolist(), found.category.tolist(), boxes, found.score.tolist(), strict=True
        )
    ]
    if task == "segm":
        for entry, mask in zip(results, found.masks or [], strict=True):
            del entry["bbox"]
            entry["segmentation"] = mask
    return results
