from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clop_det.errors import UserError
from clop_det.ranking import choosing
from clop_det.ranking.calibration_report import markdown
from clop_det.ranking.calibration_table import write_table
from clop_det.ranking.choosing import calibration, candidate_rules, choose, learn, margin
from clop_det.ranking.judging import Group, groups_of
from clop_det.ranking.measuring import RULE_MEASURES
from clop_det.ranking.rule import PLAIN, Rule
from tests.ranking.stored import LOSSES, stored

THREE = ("object_linear_top1", "object_knn_top1", "object_logme")


def test_the_measure_that_follows_ap_is_chosen_and_measures_of_the_spectrum_never() -> None:
    rule = learn(stored())
    assert rule.measures == ("object_knn_top1",)
    candidates = candidate_rules(groups_of(stored()))
    assert PLAIN in candidates
    assert {name for rule in candidates for name in rule.measures} <= set(RULE_MEASURES)


@pytest.mark.parametrize(
    ("of_three", "chosen"),
    [
        ((0.0, 0.3, 0.25), ("object_knn_top1",)),  # better by .017 on the mean, with an error of .09
        ((0.0, 0.0, 0.05), THREE),  # better on every task
    ],
)
def test_several_measures_are_taken_only_where_they_are_told_from_one(
    of_three: tuple[float, ...], chosen: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = ("digits", "cells", "fish")

    def regrets(rule: Rule, groups: Sequence[Group]) -> np.ndarray:
        found = {("object_knn_top1",): (0.2, 0.2, 0.2), THREE: of_three}.get(rule.measures, (1.0, 1.0, 1.0))
        return np.array([found[tasks.index(group.rows[0].data)] for group in groups])

    monkeypatch.setattr(choosing, "expected_regrets", regrets)
    assert choose(groups_of(stored(seeds=2, data=tasks))).measures == chosen


def test_tasks_of_one_seed_count_in_ap_but_not_in_deviations_over_seeds() -> None:
    rows = [row for row in stored(seeds=3, data=("digits", "cells")) if row.data == "digits" or row.seed == 0]
    found = calibration(rows)
    assert found.by_data is not None
    assert math.isnan(found.by_data.deviations["cells"])
    assert found.by_data.mean[1] == found.by_data.deviations["digits"]


def test_the_shipped_calibration_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "SHIPPED", tmp_path / "calibration.csv")
    assert choosing.shipped_rule() == PLAIN
    write_table(stored(), tmp_path / "calibration.csv")
    assert choosing.shipped_rule() == learn(stored())


def test_the_margin_is_the_least_gap_from_which_on_95_percent_of_the_pairs_are_right() -> None:
    groups, rule = groups_of(stored(noise=8.0)), Rule(("object_knn_top1",))
    found = margin(rule, groups)
    pairs = []
    for group in groups:
        scores = rule.scores(group.values(rule.measures))
        for i, j in itertools.combinations(range(len(scores)), 2):
            right = (scores[i] - scores[j]) * (group.means[i] - group.means[j]) > 0
            pairs.append((abs(scores[i] - scores[j]), right))
    wide = [right for gap, right in pairs if gap >= found]
    assert len(wide) >= 20
    assert sum(wide) >= 0.95 * len(wide)
    assert 0 < found < max(gap for gap, _ in pairs)
    assert margin(Rule(("object_logme",)), groups) == float("inf")


def test_a_loss_that_had_no_part_in_the_choice_is_judged_where_it_is_back() -> None:
    """One loss alone has a treacherous kNN figure: the rule chosen without it takes it, and loses what it costs."""
    rows = [
        replace(row, figures={**row.figures, "object_knn_top1": 500.0}) if row.loss == "random" else row
        for row in stored()
    ]
    found = calibration(rows)
    assert found.by_loss is not None
    assert set(found.by_loss.regrets) == set(LOSSES)
    assert found.by_loss.regrets["random"] == pytest.approx(70, abs=3)
    assert found.rule.measures != ("object_knn_top1",)
    assert found.by_data is None


def test_a_data_set_that_had_no_part_in_the_choice_is_judged() -> None:
    found = calibration(stored(seeds=2, data=("digits", "cells")))
    assert found.by_data is not None
    assert found.by_data.regrets == pytest.approx({"digits": 0, "cells": 0}, abs=1)
    assert found.cost == pytest.approx(0.02)
    page = markdown(found)
    assert "RankMe on boxes" in page
    assert "may only compare runs of one method" in page
    assert "Chosen without one data set" in page


def test_too_few_runs_are_one_error() -> None:
    with pytest.raises(UserError, match="the 2 finished runs hold no three settings"):
        calibration(stored()[:2])
    assert choose(groups_of(stored()[:3])).measures
