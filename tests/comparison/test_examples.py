"""Detections drawn side by side: which are right, and from which score on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from clop_det.comparison.report.examples import galleries
from clop_det.comparison.report.matching import best_of_run, best_score, iou, judge
from clop_det.comparison.results.summary import read_comparison
from tests.comparison.fake_job import inspect
from tests.comparison.kept import a_test, kept_comparison
from tests.comparison.workplace import Workplace


def test_iou_by_hand() -> None:
    assert iou([0, 0, 2, 2], [1, 1, 3, 3]) == pytest.approx(1 / 7)
    assert iou([0, 0, 1, 1], [1, 0, 2, 1]) == 0
    assert iou([0, 0, 4, 2], [0, 0, 4, 2]) == 1
    assert iou([0, 0, 0, 0], [0, 0, 0, 0]) == 0


def test_judging_matches_each_object_once_best_score_first() -> None:
    truth = [{"box": [0, 0, 10, 10], "label": "a"}, {"box": [20, 20, 30, 30], "label": "b"}]
    detections = [
        {"box": [0, 0, 10, 9], "label": "a", "score": 0.7},
        {"box": [0, 0, 10, 10], "label": "a", "score": 0.9},
        {"box": [20, 20, 30, 30], "label": "a", "score": 0.8},
        {"box": [20, 20, 30, 30], "label": "b", "score": 0.4},
    ]
    judged, missed = judge(detections, truth, score=0.5)
    assert [(item["score"], right) for item, right in judged] == [(0.9, True), (0.8, False), (0.7, False)]
    assert missed == [truth[1]]


def test_the_best_score_is_that_of_the_highest_f1() -> None:
    tested = a_test(3, 1.0)
    truth, found = tested.truth, tested.found
    counted = ~(truth.ignore | truth.crowd)
    scores = {}
    for score in sorted(set(found.score.tolist())):
        right = drawn = 0
        for image in range(len(truth.sizes)):
            own, its = counted & (truth.image == image), found.image == image
            boxes = [{"box": b, "label": c} for b, c in zip(truth.box[own], truth.category[own], strict=True)]
            columns = zip(found.box[its], found.category[its], found.score[its], strict=True)
            judged, _ = judge([{"box": b, "label": c, "score": s} for b, c, s in columns], boxes, score)
            right, drawn = right + sum(is_right for _, is_right in judged), drawn + len(judged)
        scores[score] = 2 * right / (drawn + int(counted.sum()))
    best = max(scores.values())
    assert best_score(tested) == pytest.approx((max(s for s, f1 in scores.items() if f1 == best), best))
    nothing = dataclasses.replace(tested, found=dataclasses.replace(found, category=found.category * 0 + 3))
    assert best_score(nothing) is None


def test_each_detector_is_drawn_from_its_own_score(tmp_path: Path) -> None:
    folder = kept_comparison(tmp_path)
    (folder / "jobs" / "detect-clop-0" / "detections.csv").unlink()
    for init in ("random", "clop"):
        inspect(place := folder / "jobs" / f"inspect-{init}")
        record = {"kind": "inspect", "name": place.name, "detect": f"detect-{init}-0", "init": init, "seed": 0}
        (place / "job.json").write_text(json.dumps(record))
    comparison = read_comparison([folder])
    best = best_of_run(folder / "jobs" / "detect-random-0")
    assert best is not None
    (gallery,) = galleries(comparison)
    assert f"random {best[0]:.2f} (F1 {best[1]:.2f})" in gallery.caption
    assert "Detections of clop are drawn from a score of 0.5 on." in gallery.caption
    notes = {tile.label: tile.note for tile in gallery.scenes[0].tiles}
    assert notes["random"].endswith(f"from score {best[0]:.2f}")
    (given,) = galleries(dataclasses.replace(comparison, example_score=0.85))
    assert given.caption.startswith("Detections are drawn from a score of 0.85 on.")
    assert {tile.note for tile in given.scenes[0].tiles[1:]} == {"1 right, 0 wrong, 1 missed, from score 0.85"}


def test_the_score_of_drawn_detections_is_the_plans(workplace: Workplace) -> None:
    workplace.write({"EXAMPLE_SCORE": 0.25})
    assert workplace.run() == 0
    assert read_comparison([workplace.output]).example_score == 0.25
