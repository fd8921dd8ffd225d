from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
from matplotlib.axes import Axes
from PIL import Image

from clop_det.detection.ground_truth import Detections, GroundTruth, ground_truth
from clop_det.detection.pictures import chosen_images, draw_curves, draw_detections
from clop_det.detection.voc_metric import Curve

RED, BLUE = (255, 90, 82), (77, 184, 255)  # the second class's colour, the first's


@pytest.fixture(autouse=True)
def _unrendered() -> None:
    """Here they are."""


def scene(tmp_path: Path, classes: int) -> tuple[list[dict[str, object]], GroundTruth]:
    """One black image of 320 x 160 with a box of class 1 at (40, 40) to (100, 100)."""
    Image.new("RGB", (320, 160)).save(tmp_path / "a.png")
    boxes = [{"category_id": 1, "bbox": [40, 40, 100, 100], "bbox_mode": 0}]
    records = [{"file_name": str(tmp_path / "a.png"), "height": 160, "width": 320, "annotations": boxes}]
    return records, ground_truth(records, [f"class{k}" for k in range(classes)])


@pytest.mark.parametrize("classes", [3, 12])
def test_truth_left_detections_above_the_score_right(tmp_path: Path, classes: int) -> None:
    records, truth = scene(tmp_path, classes)
    boxes = np.array([[40.0, 40, 100, 100], [200, 60, 260, 120]])
    found = Detections(np.zeros(2, int), np.array([1, 0]), boxes, np.array([0.9, 0.4]))
    assert draw_detections(tmp_path / "out.png", records, truth, found, 3) == [0]
    sheet = np.asarray(Image.open(tmp_path / "out.png"))[-166:-6]  # without heading and margin
    left, right = sheet[:, :320], sheet[:, 326:]
    for half in (left, right):
        assert tuple(half[70, 40]) == RED  # the left edge of the box
        assert tuple(half[70, 70]) == (0, 0, 0)
    assert not (sheet == BLUE).all(-1).any()  # score .4
    draw_detections(tmp_path / "all.png", records, truth, found, 3, score=0.3)
    lower = np.asarray(Image.open(tmp_path / "all.png"))[-166:-6, 326:]
    assert tuple(lower[90, 200]) == BLUE
    # Few classes are told by a key on top (a taller sheet), many by labels on the boxes.
    labelled = (left[20:40, 40:100] == RED).all(-1).any()
    assert labelled == (classes == 12)


def test_a_mask_detectors_picture_shows_both_sides_masks(tmp_path: Path) -> None:
    records, _ = scene(tmp_path, 3)
    records[0]["annotations"][0]["segmentation"] = [[40, 40, 100, 40, 100, 70, 40, 70]]  # type: ignore[index]
    truth = ground_truth(records, ["a", "b", "c"])
    mask = np.zeros((160, 320), dtype=np.uint8, order="F")
    mask[60:120, 200:230] = 1
    found = Detections(np.zeros(1, int), np.zeros(1, int), np.array([[200.0, 60, 260, 120]]), np.array([0.9]))
    halves = {}
    for name, masks in (("boxes", None), ("masks", [mask_util.encode(mask)])):
        draw_detections(tmp_path / "out.png", records, truth, replace(found, masks=masks), 3)
        sheet = np.asarray(Image.open(tmp_path / "out.png"))[-166:-6]
        halves[name] = sheet[:, :320], sheet[:, 326:]
    left, right = halves["masks"]
    assert tuple(left[55, 70]) == tuple(half // 2 for half in RED)  # half the class's colour over black
    assert tuple(right[100, 215]) == tuple(half // 2 for half in BLUE)
    for place in ((85, 70), (20, 20)):  # in the box but not in the mask; outside
        assert tuple(left[place]) == (0, 0, 0)
    assert tuple(right[100, 245]) == (0, 0, 0)
    assert tuple(halves["boxes"][0][55, 70]) == tuple(halves["boxes"][1][100, 215]) == (0, 0, 0)


@pytest.mark.parametrize("size", [(1300, 1), (1, 1300)])
def test_an_image_of_extreme_aspect_keeps_a_pixel(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    boxes = [{"category_id": 0, "bbox": [0, 0, *size], "bbox_mode": 0}]
    records = [{"file_name": str(tmp_path / "a.png"), "height": size[1], "width": size[0], "annotations": boxes}]
    found = Detections(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 4)), np.zeros(0))
    assert draw_detections(tmp_path / "out.png", records, ground_truth(records, ["thing"]), found, 1) == [0]


@pytest.mark.parametrize("classes", [3, 12])
def test_classes_may_be_numbers(tmp_path: Path, classes: int) -> None:
    records, truth = scene(tmp_path, classes)
    numbers: Any = tuple(range(classes))
    truth = replace(truth, classes=numbers)
    found = Detections(np.zeros(1, int), np.ones(1, int), np.array([[40.0, 40, 100, 100]]), np.array([0.9]))
    assert draw_detections(tmp_path / "out.png", records, truth, found, 1) == [0]
    curve = Curve(np.array([0.2, 0.4]), np.array([1.0, 0.5]))
    draw_curves(tmp_path / "pr.png", [curve] * classes, truth.classes, dict.fromkeys(truth.classes, 50.0))


def test_the_chosen_images_hold_boxes_and_are_spread() -> None:
    boxes = [{"category_id": 0, "bbox": [0, 0, 5, 5], "bbox_mode": 0}]
    records = [{"height": 9, "width": 9, "annotations": boxes if i % 2 else []} for i in range(20)]
    truth = ground_truth(records, ["thing"])
    assert chosen_images(truth, 3) == [1, 9, 19]
    assert chosen_images(truth, 99) == list(range(1, 20, 2))
    assert chosen_images(ground_truth(records[:1], ["thing"]), 3) == []


@pytest.mark.parametrize(("classes", "inches"), [(3, (6.5, 4.5)), (23, (13.5, 4.5)), (80, (18, 9))])
def test_curves_come_ten_classes_a_panel(tmp_path: Path, classes: int, inches: tuple[float, float]) -> None:
    curve = Curve(np.array([0.2, 0.4]), np.array([1.0, 0.5]))
    names = [f"class{k}" for k in range(classes)]
    curves = [curve, Curve(np.zeros(0), np.zeros(0))] + [curve] * (classes - 2)
    draw_curves(tmp_path / "pr.png", curves, names, dict.fromkeys(range(classes), 50.0))
    assert Image.open(tmp_path / "pr.png").size == tuple(int(110 * side) for side in inches)


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")  # matplotlib's own font has not every script
def test_names_of_any_kind_are_drawn_and_a_class_without_a_box_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels: list[str] = []
    plot = Axes.plot
    monkeypatch.setattr(
        Axes, "plot", lambda axes, *a, label, **k: labels.append(label) or plot(axes, *a, label=label, **k)
    )
    names = ["a/b", "$x_{", "line\nbreak", "\u85fb\u985e", "absent"]
    curve = Curve(np.array([0.2, 0.4]), np.array([1.0, 0.5]))
    draw_curves(tmp_path / "pr.png", [curve] * 5, names, {0: 4.0, 1: 3.0, 2: 2.0, 3: 1.0})
    assert labels == ["a/b  4.0", "$x_{  3.0", "line break  2.0", "\u85fb\u985e  1.0"]
    draw_curves(tmp_path / "none.png", [curve], ["absent"], {})
    Image.new("RGB", (3000, 6), "grey").save(tmp_path / "flat.png")
    boxes = [{"category_id": k, "bbox": [k, 0, k + 9, 5], "bbox_mode": 0} for k in range(4)]
    records = [{"file_name": str(tmp_path / "flat.png"), "height": 6, "width": 3000, "annotations": boxes}]
    for classes in (names, [*names, *map(str, range(20))]):  # named by colour, and on each box
        truth = ground_truth(records, classes)
        found = Detections(truth.image, truth.category, truth.box, np.full(4, 0.9))
        assert draw_detections(tmp_path / "d.png", records, truth, found, 1) == [0]


def test_a_class_that_is_no_formula(tmp_path: Path) -> None:
    curve = Curve(np.array([0.5, 1.0]), np.array([1.0, 0.5]))
    draw_curves(tmp_path / "a.png", [curve], ["$\\frac$"], {0: 50.0})
    assert (tmp_path / "a.png").stat().st_size > 0


def test_of_very_many_classes_the_best_and_the_worst_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clop_det.detection.pictures._AN_END", 5)
    curve, classes = Curve(np.array([0.5]), np.array([1.0])), [f"class{k}" for k in range(3000)]
    draw_curves(tmp_path / "a.png", [curve] * 3000, classes, {k: float(k) for k in range(3000)})
    with Image.open(tmp_path / "a.png") as image:
        assert image.height < 1000
