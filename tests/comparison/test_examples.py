"""Detections drawn side by side: which are right, and from which score on."""

from __future__ import annotations

import pytest

from clop_det.comparison.report.matching import iou, judge
from clop_det.comparison.results.summary import read_comparison
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


def test_the_score_of_drawn_detections_is_the_plans(workplace: Workplace) -> None:
    workplace.write({"EXAMPLE_SCORE": 0.25})
    assert workplace.run() == 0
    assert read_comparison([workplace.output]).example_score == 0.25
