"""Class labels against boxed images: the ratio of their worth, its interval, and what the same money buys."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.report.labelling import iso_cost, labels_or_boxes
from clop_det.comparison.results.labelling import Point, fieller, points_of, worth
from clop_det.comparison.results.rows import Row, Setting
from clop_det.comparison.results.summary import read_comparison
from clop_det.errors import UserError
from tests.comparison.workplace import Workplace

PLACES = [(labels, images) for labels in (50, 250, 1250) for images in (100, 200, 400)]


def points(by_label: float, by_image: float, noise: float = 0.0, seeds: int = 3) -> list[Point]:
    """Runs whose figure rises by so much with each doubling."""
    draw = np.random.default_rng(0)
    figure = {place: 10 + by_label * math.log2(place[0]) + by_image * math.log2(place[1]) for place in PLACES}
    return [
        Point(*place, {seed: figure[place] + noise * float(draw.normal()) for seed in range(seeds)}) for place in PLACES
    ]


def test_the_ratio_is_that_of_the_slopes_at_the_middle() -> None:
    found = worth(points(1.0, 2.0, noise=1e-6))
    assert found is not None
    assert (round(found.labels), round(found.images)) == (250, 200)
    # One image of 200 is worth 2 / 200 doublings' share, one label of 250 is 1 / 250.
    assert math.isclose(found.ratio, (2 / 200) / (1 / 250), rel_tol=1e-4)
    assert found.low <= found.ratio <= found.high
    assert math.isclose(found.figure(500, 200) - found.figure(250, 200), 1.0, rel_tol=1e-3)
    said = found.sentence("clop", "AP", {"LABEL": 1, "BOXED_IMAGE": 20})
    assert "one more boxed image brings as much AP as 2.5 more class labels" in said
    assert said.endswith("At 20 times the cost of a label, class labels are the better buy.")
    assert found.sentence("clop", "AP", {"LABEL": 1, "BOXED_IMAGE": 2}).endswith("boxed images are the better buy.")


def test_labels_that_bring_nothing_leave_the_ratio_without_an_upper_end() -> None:
    found = worth(points(0.0, 3.0, noise=0.3))
    assert found is not None
    assert math.isinf(found.high)
    said = found.sentence("clop", "AP", {"LABEL": 1, "BOXED_IMAGE": 1e6})
    assert "to any number" in said
    assert said.endswith("the seeds do not tell which to buy.")


def test_fiellers_interval_holds_the_ratios_that_a_t_test_does_not_refuse() -> None:
    draw = np.random.default_rng(1)
    above, below = draw.normal(4, 0.5, 6), draw.normal(2, 0.3, 6)
    ratio, low, high = fieller(list(above), list(below))
    assert low < ratio < high
    for edge in (low, high):
        assert math.isclose(stats.ttest_1samp(above - edge * below, 0).pvalue, 0.05, rel_tol=1e-6)
    hits = 0
    for _ in range(2000):
        above, below = draw.normal(4, 0.5, 4), draw.normal(2, 0.3, 4)
        _, low, high = fieller(list(above), list(below))
        hits += low <= 2 <= high
    assert 0.935 < hits / 2000 < 0.965


def test_too_little_is_no_answer() -> None:
    assert worth(points(1, 1, seeds=1)) is None
    line = [Point(labels, 100.0, {0: 1.0, 1: 2.0}) for labels in (10.0, 20.0, 30.0)]
    assert worth(line) is None


def test_curves_of_equal_cost_stay_within_what_was_measured() -> None:
    cost = {"LABEL": 1.0, "BOXED_IMAGE": 5.0}
    lines = iso_cost(points(1, 1), cost)
    assert lines
    for total, places in lines.items():
        for labels, images in places:
            assert math.isclose(labels + 5 * images, total)
            assert 50 <= labels <= 1250
            assert 100 <= images <= 400


def run(folder: Path, labels: int, images: int, seed: int, whole: bool) -> Row:
    places = {"pretrain": folder / f"p{labels}{seed}", "detect": folder / f"d{labels}_{images}_{seed}"}
    for place in places.values():
        place.mkdir(exist_ok=True)
    (places["pretrain"] / "label_split.json").write_text(json.dumps({"labelled_images": labels}))
    if whole:
        content = {"overlap": {"images": {"train": images, "CLASSIFICATION.ROOT x": 9}}}
        (places["detect"] / "annotation_checks.json").write_text(json.dumps(content))
    else:
        (places["detect"] / "train_split.json").write_text(json.dumps({"chosen_images": images}))
    setting = Setting("clop", labels / 1000, "d", (), (("DATASETS.TRAIN_FRACTION", f"{images / 40:g}"),))
    return Row(setting, seed, "done", {"AP": float(labels + images + seed)}, folders=places)


def test_labels_and_images_are_counted_in_the_run_folders(tmp_path: Path) -> None:
    rows = [
        run(tmp_path, labels, images, seed, images == 40)
        for labels in (10, 20)
        for images in (20, 40)
        for seed in (0, 1)
    ]
    (found,) = points_of(rows, "AP").values()
    assert {(point.labels, point.images) for point in found} == {(10, 20), (10, 40), (20, 20), (20, 40)}
    assert found[0].figures == {0: 30.0, 1: 31.0}
    assert points_of([row for row in rows if row.setting.label_fraction == 0.01], "AP") == {}
    others = [dataclasses.replace(row, setting=dataclasses.replace(row.setting, detection="e")) for row in rows]
    assert points_of([*rows, *others], "AP") == {"clop_d": found, "clop_e": found}
    (rows[0].folders["pretrain"] / "label_split.json").write_text("[]")
    assert points_of(rows, "AP") == {}  # of one of two label counts a run does not say how many


def test_costs_are_two_numbers(workplace: Workplace) -> None:
    for wrong in ({"LABEL": 1}, {"LABEL": 1, "BOXED_IMAGE": 0}, {"LABEL": 1, "BOXED_IMAGE": "x"}, {"LABELS": 1}):
        path = workplace.write({"COST": wrong})
        with pytest.raises(UserError, match=r"COMPARE\.COST"):
            read_matrix(load_compare_config(path), path.parent)


def test_the_report_draws_what_equal_money_buys(workplace: Workplace) -> None:
    detection = {"NAME": "d", "CONFIG": "detect.yaml", "GRID": {"DATASETS.TRAIN_FRACTION": [0.5, 1.0]}}
    cost = {"LABEL": 1, "BOXED_IMAGE": 20}
    workplace.write({"LABEL_FRACTIONS": [0.1, 0.5], "SEEDS": [0, 1], "DETECTION": [detection], "COST": cost})
    assert workplace.run() == 0
    assert labels_or_boxes(read_comparison([workplace.output])) == []  # nobody says how many labels there were
    for folder in (workplace.output / "jobs").iterdir():
        name = folder.name
        (folder / "label_split.json").write_text(json.dumps({"labelled_images": 100 if "-10pct" in name else 500}))
        (folder / "train_split.json").write_text(json.dumps({"chosen_images": 200 if "_1.0-" in name else 100}))
    (picture,) = labels_or_boxes(read_comparison([workplace.output]))
    assert picture.title == "Class labels or boxed images? clop"
    assert "At 20 times the cost of a label" in picture.caption
    assert "total cost" in picture.svg
