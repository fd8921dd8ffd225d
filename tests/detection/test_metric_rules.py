"""Rules of average precision on hand-made boxes, detections and curves."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest

from clop_det.detection.coco_backends import BACKENDS, coco_backend
from clop_det.detection.coco_metric import coco_metrics
from clop_det.detection.evaluation import score
from clop_det.detection.ground_truth import Detections, GroundTruth, ground_truth, join_detections
from clop_det.detection.voc_metric import Curve, area, as_written, best_overlaps, eleven_point, voc_metrics


def flat(boxes: list[list[float]], scores: list[float]) -> Detections:
    zeros = np.zeros(len(scores), dtype=np.int64)
    return Detections(zeros, zeros, np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array(scores))


def one_box(*, difficult: bool = False, count: int = 1) -> GroundTruth:
    annotations = [
        {"category_id": 0, "bbox": [10 * i, 0, 10 * i + 9, 9], "bbox_mode": 0, "difficult": int(difficult)}
        for i in range(count)
    ]
    return ground_truth([{"height": 50, "width": 50, "annotations": annotations}], ["thing"])


def test_a_perfect_detector_scores_100_by_every_rule() -> None:
    truth, found = one_box(), flat([[0, 0, 9, 9]], [0.9])
    voc, curves = voc_metrics(truth, found)
    assert voc["voc07"]["AP"] == pytest.approx(100)
    assert voc["voc12"]["AP"] == pytest.approx(100)
    assert coco_metrics(truth, found)["AP"] == pytest.approx(100)
    assert curves[0].recall.tolist() == [1.0]


def test_half_the_boxes_found_differs_between_the_rules() -> None:
    truth, found = one_box(count=2), flat([[0, 0, 9, 9]], [0.9])
    voc, _ = voc_metrics(truth, found)
    assert voc["voc07"]["AP50"] == pytest.approx(100 * 6 / 11)  # recalls 0, .1, ..., .5
    assert voc["voc12"]["AP50"] == pytest.approx(50)
    assert coco_metrics(truth, found)["AP50"] == pytest.approx(100 * 51 / 101)


def test_a_double_detection_is_wrong_and_a_difficult_box_counts_neither_way() -> None:
    double = flat([[0, 0, 9, 9], [0, 0, 9, 9]], [0.9, 0.8])
    assert voc_metrics(one_box(), double)[1][0].precision.tolist() == [1.0, 0.5]
    hard = one_box(difficult=True, count=1)
    easy = ground_truth(
        [{"height": 50, "width": 50, "annotations": [{"category_id": 0, "bbox": [20, 20, 29, 29], "bbox_mode": 0}]}],
        ["thing"],
    )
    both = GroundTruth(
        np.zeros(2, np.int64),
        np.zeros(2, np.int64),
        np.concatenate([hard.box, easy.box]),
        np.array([True, False]),
        np.zeros(2, bool),
        np.array([81.0, 81.0]),
        [None, None],
        [(50, 50)],
        ("thing",),
    )
    found = flat([[0, 0, 9, 9], [20, 20, 29, 29]], [0.9, 0.8])
    assert voc_metrics(both, found)[0]["voc12"]["AP50"] == pytest.approx(100)
    assert coco_metrics(both, found)["AP50"] == pytest.approx(100)


def test_no_detection_at_all_is_zero_not_an_error() -> None:
    nothing = flat([], [])
    assert coco_metrics(one_box(), nothing)["AP"] == 0
    assert voc_metrics(one_box(), nothing)[0]["voc07"]["AP"] == 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("task", ["bbox", "segm"])
def test_no_detection_leaves_out_what_one_miss_leaves_out(task: str, backend: str) -> None:
    """pycocotools' own figures of one wrong detection are those of none: 0 for a class with a box that counts."""
    entries: list[dict[str, Any]] = [
        {"category_id": 0, "bbox": [0, 0, 9, 9]},
        {"category_id": 1, "bbox": [0, 0, 9, 9], "difficult": 1},
        {"category_id": 2, "bbox": [20, 20, 29, 29], "iscrowd": 1},
        {"category_id": 3, "bbox": [0, 0, 40, 40], "area": 1600.0},
        {"category_id": 3, "bbox": [0, 0, 9, 9], "difficult": 1},
    ]
    outline = {"segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]]} if task == "segm" else {}
    annotations = [{**entry, **outline, "bbox_mode": 0} for entry in entries]
    truth = ground_truth([{"height": 50, "width": 50, "annotations": annotations}], ["a", "b", "c", "d", "e"])
    miss = flat([[45, 45, 48, 48]], [0.9])
    code = mask_util.encode(np.asfortranarray(np.eye(50, dtype=np.uint8)[::-1]))
    chosen = coco_backend(backend)
    nothing = coco_metrics(truth, flat([], []), task, chosen)
    assert nothing == coco_metrics(truth, dataclasses.replace(miss, masks=[code]), task, chosen)
    assert nothing == dict.fromkeys(["AP", "AP50", "AP75", "APs", "APm", "AP-a", "AP-d"], 0.0)
    ignored = ground_truth([{"height": 50, "width": 50, "annotations": annotations[1:3]}], ["a", "b", "c"])
    assert coco_metrics(ignored, flat([], []), task, chosen) == {}


def test_a_mask_detector_that_finds_nothing_has_mask_figures_of_zero() -> None:
    nothing: dict[str, Any] = {"box": np.zeros((0, 4)), "score": np.zeros(0), "category": np.zeros(0, dtype=np.int64)}
    truth = dataclasses.replace(one_box(), masks=[[[0, 0, 9, 0, 9, 9, 0, 9]]])
    assert "segm" not in score(truth, join_detections({0: nothing}), "coco").families
    masked = score(truth, join_detections({0: {**nothing, "masks": []}}), "coco").families
    assert masked["segm"]["AP"] == masked["bbox"]["AP"] == 0


def test_overlaps_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    corner = rng.random((40, 2)) * 30
    boxes = np.concatenate([corner, corner + rng.random((40, 2)) * 20], 1)
    image, truth_image = rng.integers(0, 6, 25), np.sort(rng.integers(0, 5, 15))
    best, owner = best_overlaps(boxes[:25], image, boxes[25:], truth_image)
    for d in range(25):
        mine = np.flatnonzero(truth_image == image[d])
        if not len(mine):
            assert best[d] == -np.inf
            continue
        values = []
        for g in mine:
            a, b = boxes[d], boxes[25 + g]
            w = min(a[2], b[2]) - max(a[0], b[0]) + 1
            h = min(a[3], b[3]) - max(a[1], b[1]) + 1
            shared = max(w, 0) * max(h, 0)
            total = sum((c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)) - shared
            values.append(shared / total)
        assert best[d] == pytest.approx(max(values))
        assert values[list(mine).index(owner[d])] == pytest.approx(max(values))


@pytest.mark.parametrize("decimals", [1, 3])
def test_as_written_is_what_text_gives(decimals: int) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.random(2000) * 100, (rng.integers(0, 4000, 500) + 0.5) / 10**decimals])
    assert as_written(values, decimals).tolist() == [float(f"{v:.{decimals}f}") for v in values]


def test_curve_rules_on_a_hand_made_curve() -> None:
    curve = Curve(np.array([0.25, 0.25, 0.5]), np.array([1.0, 0.5, 2 / 3]))
    assert area(curve) == pytest.approx(0.25 * 1.0 + 0.25 * 2 / 3)
    assert eleven_point(curve) == pytest.approx((3 * 1.0 + 3 * 2 / 3) / 11)


def test_a_box_without_a_mask_counts_neither_as_found_nor_as_missed() -> None:
    """A detector with perfect masks scores 100 whatever share of the true masks is missing."""
    rows, columns = np.mgrid[:100, :100]
    masks = [((columns - 25 - 50 * (k % 2)) / 20) ** 2 + ((rows - 25 - 50 * (k // 2)) / 12) ** 2 < 1 for k in range(4)]
    codes = [mask_util.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    boxes = [
        [25 + 50 * (k % 2) - 20, 25 + 50 * (k // 2) - 12, 25 + 50 * (k % 2) + 20, 25 + 50 * (k // 2) + 12]
        for k in range(4)
    ]
    found = dataclasses.replace(flat(boxes, [0.9, 0.8, 0.7, 0.6]), masks=codes)
    for missing in (0, 1, 3):
        entries = [
            {"category_id": 0, "bbox": box, "bbox_mode": 0, **({} if k < missing else {"segmentation": code})}
            for k, (box, code) in enumerate(zip(boxes, codes, strict=True))
        ]
        truth = ground_truth([{"height": 100, "width": 100, "annotations": entries}], ["thing"])
        assert coco_metrics(truth, found, "segm")["AP"] == pytest.approx(100), missing
        wrong = dataclasses.replace(found, masks=[*codes[:3], codes[2]])  # the last is not found
        assert coco_metrics(truth, wrong, "segm")["AP"] < 100
    truth = ground_truth(
        [{"height": 100, "width": 100, "annotations": [{**e, "segmentation": None} for e in entries]}], ["thing"]
    )
    assert "segm" not in score(truth, found, "coco").families


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_limit_of_detections_is_the_metrics(backend: str) -> None:
    boxes = [[6 * (k % 16), 6 * (k // 16), 6 * (k % 16) + 5, 6 * (k // 16) + 5] for k in range(250)]
    entries = [{"category_id": 0, "bbox": box, "bbox_mode": 0} for box in boxes]
    truth = ground_truth([{"height": 100, "width": 100, "annotations": entries}], ["thing"])
    found = flat(boxes, np.linspace(0.9, 0.1, 250).tolist())
    chosen = coco_backend(backend)
    assert coco_metrics(truth, found, backend=chosen)["AP"] == pytest.approx(100 * 41 / 101)  # recalls 0, .01, ..., .40
    assert coco_metrics(truth, found, backend=chosen, most=250)["AP"] == pytest.approx(100)
