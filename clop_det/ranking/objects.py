"""What every checkpoint is shown of a detection data set: boxes cut out, and windows that hold a box somewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from clop_det.detection.loader import ImageCache
from clop_det.detection.objects import usable_boxes
from clop_det.errors import UserError

LEAST = 40  # boxes, half of them in the bank
_IMAGES = 25  # an image gives at most this share of the boxes, so that a crowd does not stand for the data set
_WIDEST, _NARROWEST = 3.0, 1.5  # side of a window, in sides of its box


@dataclass(frozen=True)
class Objects:
    """N annotated boxes of training images.

    Attributes:
        crops: (N, 3, S, S) uint8 RGB, the boxes stretched to squares.
        windows: (N, 3, S, S) uint8 RGB, parts of the images that hold the box at a random place.
        places: (N, 4) float64, centre x and y and the logarithms of width and height of the box, in its window's.
        labels: (N,) int64 class indices.
        images: (N,) int64, the image that a box is of.
    """

    crops: Tensor
    windows: Tensor
    places: Tensor
    labels: Tensor
    images: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def choose_objects(records: Sequence[dict[str, Any]], limit: int, side: int, source: torch.Generator) -> Objects:
    """At most `limit` boxes, in a seeded order of the images.

    Crowds, difficult boxes and boxes of less than a pixel are left out.

    Args:
        records: dataset dicts of training images.
        limit: boxes in all, at least `LEAST`.
        side: of the squares in pixels.
        source: draws images, boxes and windows.

    Raises:
        UserError: too few boxes or images, one class alone, or an image that cannot be read.
    """
    images, most = ImageCache("RGB", limit=0), -(-limit // _IMAGES)
    crops: list[np.ndarray] = []
    windows: list[np.ndarray] = []
    places: list[list[float]] = []
    labels: list[int] = []
    owners: list[int] = []
    for index in torch.randperm(len(records), generator=source).tolist():
        boxes = usable_boxes(records[index])
        chosen = [boxes[i] for i in torch.randperm(len(boxes), generator=source)[: min(most, limit - len(labels))]]
        picture = Image.fromarray(images.read(records[index])) if chosen else None
        for label, box in chosen:
            assert picture is not None
            window = _window(box, picture.size, source)
            crops.append(_cut(picture, box, side))
            windows.append(_cut(picture, window, side))
            places.append(_place(box, window))
            labels.append(label)
            owners.append(index)
        if len(labels) >= limit:
            break
    _check_enough(labels, owners, most)
    boxed = torch.tensor(places, dtype=torch.float64)
    return Objects(_stacked(crops), _stacked(windows), boxed, torch.tensor(labels), torch.tensor(owners))


def _stacked(cut: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).contiguous()


def _check_enough(labels: Sequence[int], owners: Sequence[int], most: int) -> None:
    if len(labels) < LEAST or len(set(owners)) < 4:
        raise UserError(
            f"the training images give {len(labels)} boxes that are neither crowds nor difficult, on"
            f" {len(set(owners))} images and at most {most} an image (a {_IMAGES}th of the number asked for); a ranking"
            f" needs at least {LEAST} boxes on 4 images. Ask for more boxes, or name more images."
        )
    if len(set(labels)) < 2:
        raise UserError("all boxes are of one class, so no measure can tell classes apart; a ranking needs two.")


def _window(box: Sequence[float], size: tuple[int, int], source: torch.Generator) -> tuple[float, ...]:
    """A part of the image that holds the box: its size and where the box lies in it are drawn."""
    (x1, y1, x2, y2), (width, height) = box, size
    stretch, across, down = torch.rand(3, generator=source, dtype=torch.float64).tolist()
    longest = max(x2 - x1, y2 - y1) * (_NARROWEST + stretch * (_WIDEST - _NARROWEST))
    left, right = _side(x1, x2, longest, width, across)
    top, bottom = _side(y1, y2, longest, height, down)
    return left, top, right, bottom


def _side(start: float, end: float, wanted: float, length: float, share: float) -> tuple[float, float]:
    extent = min(wanted, length)
    low, high = max(0.0, end - extent), min(start, length - extent)
    first = low + share * max(0.0, high - low)
    return first, first + extent


def _place(box: Sequence[float], window: Sequence[float]) -> list[float]:
    (x1, y1, x2, y2), (left, top, right, bottom) = box, window
    wide, high = right - left, bottom - top
    centre = [((x1 + x2) / 2 - left) / wide, ((y1 + y2) / 2 - top) / high]
    return [*centre, float(np.log((x2 - x1) / wide)), float(np.log((y2 - y1) / high))]


def _cut(picture: Image.Image, box: Sequence[float], side: int) -> np.ndarray:
    x1, y1, x2, y2 = box
    inside = max(0.0, x1), max(0.0, y1), min(float(picture.width), x2), min(float(picture.height), y2)
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR, box=inside))
