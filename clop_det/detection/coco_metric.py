"""COCO's average precision (101 recall points) for any test set, COCO or VOC, from the same flat arrays."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from clop_det.detection.ground_truth import Array, Detections, GroundTruth

NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class _Evaluation(COCOeval):  # type: ignore[misc]
    """COCOeval that also passes over VOC's difficult boxes, which it would otherwise overwrite with `iscrowd`."""

    def _prepare(self) -> None:
        super()._prepare()
        for entries in self._gts.values():
            for entry in entries:
                entry["ignore"] = entry["iscrowd"] or entry["difficult"]


def coco_metrics(truth: GroundTruth, found: Detections, task: str = "bbox") -> dict[str, float]:
    """AP in percent: AP, AP50, AP75, APs, APm, APl and AP-<class>; what has no ground truth is left out.

    Args:
        task: "bbox" or "segm" (both sides need masks).
    """
    with contextlib.redirect_stdout(io.StringIO()):
        reference = _index(truth, task)
        if not len(found):
            present = [name for k, name in enumerate(truth.classes) if np.any(truth.category == k)]
            return dict.fromkeys([*NAMES[:3], *(f"AP-{name}" for name in present)], 0.0)
        evaluation = _Evaluation(reference, reference.loadRes(_results(found, task)), task)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = {name: float(value) for name, value in zip(NAMES, evaluation.stats, strict=False)}
    precision: Array = evaluation.eval["precision"]  # (overlaps, recalls, classes, areas, detections an image)
    for k, name in enumerate(truth.classes):
        values = precision[:, :, k, 0, -1]
        values = values[values > -1]
        figures[f"AP-{name}"] = float(values.mean()) if values.size else -1.0
    return {name: 100 * value for name, value in figures.items() if value > -1}


def _index(truth: GroundTruth, task: str) -> Any:
    annotations = []
    for k in range(len(truth.category)):
        x1, y1, x2, y2 = truth.box[k].tolist()
        entry: dict[str, Any] = {
            "id": k + 1,  # pycocotools takes the id 0 for "no match"
            "image_id": int(truth.image[k]),
            "category_id": int(truth.category[k]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": float(truth.area[k]),
            "iscrowd": int(truth.crowd[k]),
            "difficult": int(truth.ignore[k]),
        }
        if task == "segm":
            entry["segmentation"] = truth.masks[k] or [[x1, y1, x2, y1, x2, y2, x1, y2]]
        annotations.append(entry)
    reference = COCO()
    reference.dataset = {
        "info": {},
        "images": [{"id": i, "height": height, "width": width} for i, (height, width) in enumerate(truth.sizes)],
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for k, name in enumerate(truth.classes)],
    }
    reference.createIndex()
    return reference


def _results(found: Detections, task: str) -> list[dict[str, Any]]:
    boxes = np.concatenate([found.box[:, :2], found.box[:, 2:] - found.box[:, :2]], axis=1).tolist()
    results = [
        {"image_id": i, "category_id": c, "bbox": box, "score": score}
        for i, c, box, score in zip(
            found.image.tolist(), found.category.tolist(), boxes, found.score.tolist(), strict=True
        )
    ]
    if task == "segm":
        for entry, mask in zip(results, found.masks, strict=True):
            del entry["bbox"]
            entry["segmentation"] = mask
    return results
