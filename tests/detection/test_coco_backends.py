"""Every backend gives pycocotools' figures to the last digit: crowds, empty images, > 100 detections, difficult."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pycocotools.mask as mask_util
import pytest

from clop_det.detection.coco_backends import BACKENDS, coco_backend
from clop_det.detection.coco_metric import coco_metrics
from clop_det.detection.ground_truth import Detections, GroundTruth
from clop_det.errors import UserError

OTHERS = [name for name in BACKENDS if name != "pycocotools"]
CLASSES = ("disc", "square", "triangle", "absent")
SIDE = 200


def scene(seed: int, *, crowds: bool, difficult: bool, most: int) -> tuple[GroundTruth, Detections]:
    """Twenty images, some without a box, some without a detection, with up to `most` detections each; scores tie."""
    rng = np.random.default_rng(seed)
    boxes, found = [], []
    for image in range(20):
        corner = rng.random((0 if image % 5 == 3 else int(rng.integers(1, 12)), 2)) * 120
        own = np.concatenate([corner, corner + rng.uniform(4, 79, corner.shape)], 1)
        labels = rng.integers(0, 3, len(own))
        boxes += [(image, label, box) for label, box in zip(labels, own, strict=True)]
        for _ in range(0 if image % 7 == 2 else int(rng.integers(0, most))):
            near = len(own) and rng.random() < 0.7
            pick = int(rng.integers(len(own))) if near else 0
            box = (own[pick] if near else np.array([5.0, 5, 60, 60])) + rng.normal(0, 3, 4)
            box = np.array([*np.minimum(box[:2], box[2:] - 1), *box[2:]]).clip(0, SIDE)
            label = int(labels[pick]) if near and rng.random() < 0.9 else int(rng.integers(3))
            found.append((image, label, box, round(float(rng.random()), 2)))
    truth_boxes = np.array([box for *_, box in boxes])
    extent = np.prod(truth_boxes[:, 2:] - truth_boxes[:, :2], axis=1)
    truth = GroundTruth(
        image=np.array([image for image, *_ in boxes]),
        category=np.array([label for _, label, _ in boxes]),
        box=truth_boxes,
        ignore=rng.random(len(boxes)) < (0.2 if difficult else 0),
        crowd=rng.random(len(boxes)) < (0.2 if crowds else 0),
        area=extent * rng.uniform(0.6, 1.0, len(boxes)),
        masks=[_rle(box) for *_, box in boxes],
        sizes=[(SIDE, SIDE)] * 20,
        classes=CLASSES,
    )
    found.sort(key=lambda entry: (entry[0], -entry[3]))
    detections = Detections(
        image=np.array([image for image, *_ in found]),
        category=np.array([label for _, label, *_ in found]),
        box=np.array([box for _, _, box, _ in found]),
        score=np.array([score for *_, score in found]),
        masks=[_rle(box) for _, _, box, _ in found],
    )
    return truth, detections


def _rle(box: np.ndarray) -> dict[str, object]:
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8, order="F")
    x1, y1, x2, y2 = box.astype(int)
    mask[y1 : y2 + 1, x1 : x2 + 1] = 1
    return mask_util.encode(mask)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("task", ["bbox", "segm"])
@pytest.mark.parametrize(
    ("crowds", "difficult", "most"), [(False, False, 20), (True, False, 20), (False, True, 20), (True, True, 260)]
)
def test_equal_to_the_last_digit(name: str, task: str, crowds: bool, difficult: bool, most: int) -> None:
    truth, found = scene(most + crowds, crowds=crowds, difficult=difficult, most=most)
    assert not {3, 8, 13} & set(truth.image.tolist())
    assert bool(truth.crowd.any()) is crowds
    if most > 100:
        per_class = np.unique(found.image * 10 + found.category, return_counts=True)[1]
        assert per_class.max() > 100 or np.unique(found.image, return_counts=True)[1].max() > 100
    expected = coco_metrics(truth, found, task)
    assert expected["AP50"] > 5  # a comparison of zeros would show nothing
    assert "AP-absent" not in expected
    assert coco_metrics(truth, found, task, coco_backend(name)) == expected


@pytest.mark.parametrize("name", OTHERS)
def test_boxes_without_a_mask_are_the_same_to_every_backend(name: str) -> None:
    truth, found = scene(21, crowds=True, difficult=True, most=20)
    some = dataclasses.replace(truth, masks=[mask if k % 3 else None for k, mask in enumerate(truth.masks)])
    expected = coco_metrics(some, found, "segm")
    assert expected != coco_metrics(truth, found, "segm")
    assert coco_metrics(some, found, "segm", coco_backend(name)) == pytest.approx(expected, abs=1e-9)


def test_more_than_100_detections_of_a_class_in_an_image_matter() -> None:
    """The limit is a hundred an image and class, so the parity above is on a case where it cuts something off."""
    truth, found = scene(3, crowds=False, difficult=False, most=700)
    counts = np.unique(found.image * 10 + found.category, return_counts=True)[1]
    assert counts.max() > 100
    results = {name: coco_metrics(truth, found, backend=coco_backend(name)) for name in BACKENDS}
    assert results["hotcoco"] == results["faster-coco-eval"] == results["pycocotools"]


def test_a_difficult_box_is_neither_missed_nor_found_and_a_double_on_it_is_wrong() -> None:
    truth, _ = scene(1, crowds=False, difficult=True, most=20)
    hard = np.flatnonzero(truth.ignore)
    exact = Detections(truth.image, truth.category, truth.box, np.linspace(1, 0.5, len(truth.box)))
    assert coco_metrics(truth, exact)["AP"] == pytest.approx(100)
    kept = np.setdiff1d(np.arange(len(truth.box)), hard)
    without = Detections(exact.image[kept], exact.category[kept], exact.box[kept], exact.score[kept])
    assert coco_metrics(truth, without)["AP"] == pytest.approx(100)
    doubled = [np.concatenate([part[hard], part]) for part in (truth.image, truth.category, truth.box)]
    scores = np.concatenate([np.full(len(hard), 1.0), exact.score])
    assert coco_metrics(truth, Detections(*doubled, scores))["AP"] < 99


@pytest.mark.parametrize("name", list(BACKENDS))
def test_versions_are_known(name: str) -> None:
    assert coco_backend(name).version[0].isdigit()


def test_unknown_and_missing_backends_name_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="choose one of pycocotools, faster-coco-eval, hotcoco"):
        coco_backend("fast")
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(UserError, match=r"pip install 'clop_det\[fast-eval\]'"):
        coco_backend("hotcoco")
