"""What a finished run found on its test sets, kept beside its figures, so that anybody can compute them again.

For each test set a run folder holds `ground_truth.json` (COCO's annotation layout; `info` names the data set, the
family of the headline and the most detections that were scored) and `detections.csv`, one detection a line: image and
class as they are numbered there, the corners and the score as the shortest decimals that give the same float32, the
place among the detections of its class by VOC's rule, and of a detector with masks the run-length code. With several
test sets the names end in the set's.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from clop_det.detection.coco_metric import reference
from clop_det.detection.ground_truth import Array, Detections, GroundTruth
from clop_det.detection.voc_metric import voc_order
from clop_det.errors import UserError
from clop_det.files import write_text

DETECTIONS, TRUTH = "detections", "ground_truth"  # beginnings of the files' names
_MOST_PIXELS = 1 << 29  # of an image
_COLUMNS = ("image", "category", "x1", "y1", "x2", "y2", "score", "voc_order")


@dataclasses.dataclass(frozen=True)
class Tested:
    """A test set as a run saw it, and what the run found there.

    Attributes:
        data_set: its name.
        prefix: what the names of its figures begin with: "" of the only test set, else "NAME/".
        headline: the family that "bbox" repeats.
        most: detections of a class in an image that COCO's rule scores.
        files: per image the name of its file, without folders.
    """

    data_set: str
    prefix: str
    headline: str
    most: int
    files: Sequence[str]
    truth: GroundTruth
    found: Detections


def write_tested(folder: Path, tested: Tested) -> None:
    """Write both files of a test set into a run folder.

    Raises:
        UserError: they cannot be written.
    """
    truth_name, found_name = file_names(tested.data_set if tested.prefix else "")
    content = reference(tested.truth, "bbox")
    facts = ("data_set", "prefix", "headline", "most")
    content["info"] = {name: getattr(tested, name) for name in facts}
    for image, name in zip(content["images"], tested.files, strict=True):
        image["file_name"] = name
    for k, entry in enumerate(content["annotations"]):
        entry["difficult"] = int(tested.truth.ignore[k])
        if mask := tested.truth.masks[k]:
            entry["segmentation"] = mask
    write_text(folder / truth_name, json.dumps(content, default=lambda value: value.decode("ascii")) + "\n")
    write_text(folder / found_name, "\n".join(_lines(tested.truth, tested.found)) + "\n")


def file_names(data_set: str) -> tuple[str, str]:
    """Names of the two files; `data_set` is empty where a run has one test set. A slash in its name is no folder."""
    end = f"_{quote(data_set, safe=' ')}" if data_set else ""
    return f"{TRUTH}{end}.json", f"{DETECTIONS}{end}.csv"


def read_tested(truth: bytes, found: bytes) -> Tested:
    """The content of both files; nobody vouches for it.

    Raises:
        UserError: it is not what `write_tested` writes.
    """
    try:
        content = json.loads(truth)
        info, images, classes = content["info"], content["images"], content["categories"]
        known = _truth(content)
        texts = [info["data_set"], info["prefix"], info["headline"], *(image["file_name"] for image in images)]
        if not all(isinstance(text, str) for text in (*texts, *known.classes)) or not 0 < info["most"] < 1e6:
            raise ValueError("its names are no texts, or too many detections are scored")
        detections = _found(found.decode(), known)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise UserError(
            f"the detections and ground truth are not as a run writes them ({type(error).__name__}: {error}). Take the"
            " files that the run has left."
        ) from error
    assert len(classes) == len(known.classes)
    names = [image["file_name"] for image in images]
    return Tested(texts[0], texts[1], texts[2], int(info["most"]), names, known, detections)


def _lines(truth: GroundTruth, found: Detections) -> list[str]:
    order = voc_order(found, len(truth.classes))
    numbers = [found.image, found.category, *found.box.astype(np.float32).T, found.score.astype(np.float32), order]
    columns = [map(str, values) for values in numbers]  # numpy writes the shortest decimals that it reads back
    header = list(_COLUMNS)
    if found.masks is not None:
        header.append("mask")
        columns.append(mask["counts"].decode("ascii") for mask in found.masks)  # type: ignore[arg-type]
    return [",".join(header), *map(",".join, zip(*columns, strict=True))]


def _truth(content: dict[str, Any]) -> GroundTruth:
    entries, images = content["annotations"], content["images"]
    boxes = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    truth = GroundTruth(
        image=np.array([entry["image_id"] for entry in entries], dtype=np.int64),
        category=np.array([entry["category_id"] for entry in entries], dtype=np.int64),
        box=boxes,
        ignore=np.array([entry["difficult"] for entry in entries], dtype=bool),
        crowd=np.array([entry["iscrowd"] for entry in entries], dtype=bool),
        area=np.array([entry["area"] for entry in entries], dtype=np.float64),
        masks=[entry.get("segmentation") for entry in entries],
        sizes=[(int(image["height"]), int(image["width"])) for image in images],
        classes=tuple(category["name"] for category in content["categories"]),
    )
    numbered = [item["id"] for item in images] == list(range(len(images)))
    numbered = numbered and [item["id"] for item in content["categories"]] == list(range(len(truth.classes)))
    if not numbered or not images or not truth.classes:
        raise ValueError("images and classes are not numbered from 0")
    if not all(height > 0 and width > 0 and height * width <= _MOST_PIXELS for height, width in truth.sizes):
        raise ValueError("an image has no size that images have")
    _check(truth.image, truth.category, truth.box, truth)
    if (np.diff(truth.image) < 0).any():
        raise ValueError("the boxes do not stand in the order of the images")
    return truth


def _found(text: str, truth: GroundTruth) -> Detections:
    header, *lines = text.split("\n")[:-1]
    names = header.split(",")
    if tuple(names) not in (_COLUMNS, (*_COLUMNS, "mask")):
        raise ValueError(f"the columns are {header[:80]}")
    cells = [line.split(",") for line in lines]
    if any(len(line) != len(names) for line in cells):
        raise ValueError("a line has another number of columns than the first")
    columns = list(zip(*cells, strict=True)) or [()] * len(names)
    whole = [np.array(list(map(int, columns[k])), dtype=np.int64) for k in (0, 1, 7)]
    real = np.array([list(map(float, columns[k])) for k in range(2, 7)]).astype(np.float32).astype(np.float64)
    masks = None
    if names[-1] == "mask":
        sizes = [truth.sizes[image] for image in whole[0].tolist()]
        masks = [{"size": list(size), "counts": code} for size, code in zip(sizes, columns[-1], strict=True)]
    found = Detections(whole[0], whole[1], real[:4].T.copy(), real[4].copy(), masks, order=whole[2])
    _check(found.image, found.category, found.box, truth)
    if not all(0 <= value <= 1 and not math.isnan(value) for value in found.score.tolist()):
        raise ValueError("a score lies outside [0, 1]")
    return found


def _check(image: Array, category: Array, box: Array, truth: GroundTruth) -> None:
    for values, count, what in ((image, len(truth.sizes), "image"), (category, len(truth.classes), "class")):
        if len(values) and (values.min() < 0 or values.max() >= count):
            raise ValueError(f"there is no {what} of some number that is named")
    if not np.isfinite(box).all():
        raise ValueError("a box is not finite")
