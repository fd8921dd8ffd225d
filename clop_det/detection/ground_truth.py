"""Ground truth and detections as flat arrays: what both AP families are computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import detection_utils as utils

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class GroundTruth:
    """The annotated boxes of a test set.

    Attributes:
        image: (G,) index of the image, in the order of the data set.
        category: (G,) contiguous class index.
        box: (G, 4) x1, y1, x2, y2 in pixels from 0, right and lower edge excluded.
        ignore: (G,) bool: VOC's `difficult`; neither finding nor missing it counts.
        crowd: (G,) bool: COCO's `iscrowd`; many detections may lie in it and none counts.
        area: (G,) pixels: of the mask where there is one, as COCO counts small, medium and large.
        masks: per box its COCO segmentation, or None.
        sizes: per image (height, width).
        classes: K class names.
    """

    image: Array
    category: Array
    box: Array
    ignore: Array
    crowd: Array
    area: Array
    masks: list[Any]
    sizes: list[tuple[int, int]]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Detections:
    """What a detector found, image by image in the order of the data set, by falling score within an image.

    Attributes:
        image: (D,) index of the image.
        category: (D,) contiguous class index.
        box: (D, 4) float64, as in `GroundTruth`.
        score: (D,) float64.
        masks: per detection its run-length code; None for a detector without masks.
        order: (D,) place among the detections of its class by VOC's rule, as `voc_metric.voc_order` gave it; None: not
            known, so numpy's sort decides between equal scores.
    """

    image: Array
    category: Array
    box: Array
    score: Array
    masks: list[Any] | None = None
    order: Array | None = None

    def __len__(self) -> int:
        return len(self.score)


def ground_truth(records: Sequence[dict[str, Any]], classes: Sequence[str]) -> GroundTruth:
    """Flatten dataset dicts (Detectron2's standard format)."""
    entries = [(i, entry) for i, record in enumerate(records) for entry in record["annotations"]]
    boxes = np.array([utils.get_bbox(entry) for _, entry in entries], dtype=np.float64).reshape(-1, 4)
    extent = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return GroundTruth(
        image=np.array([i for i, _ in entries], dtype=np.int64),
        category=np.array([entry["category_id"] for _, entry in entries], dtype=np.int64),
        box=boxes,
        ignore=np.array([bool(entry.get("difficult", 0)) for _, entry in entries], dtype=bool),
        crowd=np.array([bool(entry.get("iscrowd", 0)) for _, entry in entries], dtype=bool),
        area=np.array([entry.get("area", extent[k]) for k, (_, entry) in enumerate(entries)], dtype=np.float64),
        masks=[entry.get("segmentation") for _, entry in entries],
        sizes=[(record["height"], record["width"]) for record in records],
        classes=tuple(classes),
    )


def pack_instances(instances: Any) -> dict[str, Any]:
    """Detectron2 `Instances` of one image as arrays on the CPU: box, score, category and, if there are, masks."""
    packed = {
        "box": instances.pred_boxes.tensor.cpu().numpy().astype(np.float64),
        "score": instances.scores.cpu().numpy().astype(np.float64),
        "category": instances.pred_classes.cpu().numpy().astype(np.int64),
    }
    if instances.has("pred_masks"):
        masks = instances.pred_masks.cpu().numpy()
        packed["masks"] = [mask_util.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    return packed


def join_detections(per_image: dict[int, dict[str, Any]]) -> Detections:
    """Detections of a whole set from `pack_instances` per image index."""
    order = sorted(per_image)
    parts = [per_image[i] for i in order]
    counts = [len(part["score"]) for part in parts]
    masked = all("masks" in part for part in parts)
    return Detections(
        image=np.repeat(np.array(order, dtype=np.int64), counts),
        category=np.concatenate([part["category"] for part in parts] or [np.zeros(0, np.int64)]),
        box=np.concatenate([part["box"] for part in parts] or [np.zeros((0, 4))]),
        score=np.concatenate([part["score"] for part in parts] or [np.zeros(0)]),
        masks=[mask for part in parts for mask in part["masks"]] if masked else None,
    )
