"""Annotated boxes cut out of their images: a labelled image set that every detection set carries within itself.

Cut out and resized rather than pooled from the whole image's feature map: on that map a small object fills less than
one cell, whose receptive field holds mostly its neighbours. With a random ResNet-18 on digit scenes, kNN on res5
pooled over the boxes is right 10 times in 100, as by chance, on the boxes cut out 53 times
(`benchmarks/object_probe.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import detection_utils as utils
from PIL import Image
from torch import Tensor

from clop_det.detection.loader import ImageCache

Box = tuple[int, tuple[float, float, float, float]]  # class index; x1, y1, x2, y2 inside the image


def object_crops(
    records: Sequence[dict[str, Any]], limit: int, side: int, source: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Boxes of whole images, in a seeded order of the images, until there are `limit`.

    Crowds, difficult boxes and boxes of less than a pixel inside the image are left out.

    Args:
        records: dataset dicts.
        limit: at most so many boxes.
        side: of the squares, in pixels; each box is stretched to one, as RoIAlign does.
        source: draws the order.

    Returns:
        images (N, 3, side, side) uint8 RGB, labels (N,) int64 class indices.

    Raises:
        ValueError: no box is left.
        UserError: an image cannot be read.
    """
    images = ImageCache("RGB", limit=0)
    crops: list[np.ndarray] = []
    labels: list[int] = []
    for index in torch.randperm(len(records), generator=source).tolist():
        boxes = usable_boxes(records[index])[: limit - len(labels)]
        if boxes:
            image = Image.fromarray(images.read(records[index]))
            crops += [np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=box)) for _, box in boxes]
            labels += [label for label, _ in boxes]
        if len(labels) == limit:
            break
    if not crops:
        raise ValueError(f"none of {len(records)} images has a box that is neither a crowd nor difficult")
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.tensor(labels, dtype=torch.int64)


def usable_boxes(record: dict[str, Any]) -> list[Box]:
    """The boxes of a dataset dict that show one object, cut to the image, with their classes."""
    boxes = []
    for entry in record["annotations"]:
        x1, y1, x2, y2 = (float(value) for value in utils.get_bbox(entry))
        inside = max(x1, 0.0), max(y1, 0.0), min(x2, float(record["width"])), min(y2, float(record["height"]))
        wide, high = inside[2] - inside[0] >= 1, inside[3] - inside[1] >= 1
        if wide and high and not entry.get("iscrowd", 0) and not entry.get("difficult", 0):
            boxes.append((int(entry["category_id"]), inside))
    return boxes
