from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from clop_det.ranking.judging import correlations, expected_regrets, groups_of, judge
from clop_det.ranking.rule import RANKS, Rule
from tests.ranking.stored import LOSSES, stored

KNN, LOGME = Rule(("object_knn_top1",)), Rule(("object_logme",))


def test_a_choice_is_the_runs_of_one_seed_with_the_mean_and_the_spread_of_each_setting() -> None:
    rows = stored(seeds=3)
    groups = groups_of(rows)
    assert [len(group.rows) for group in groups] == [len(LOSSES)] * 3
    table = np.array([[row.ap for row in rows if row.loss == loss] for loss in LOSSES])
    assert groups[1].means == pytest.approx(table.mean(1))
    assert groups[1].ap == pytest.approx(table[:, 1])
    assert groups[0].deviation == pytest.approx(np.sqrt(table.var(1, ddof=1).mean()))


def test_runs_of_two_schedules_are_no_choice_and_two_settings_are_too_few() -> None:
    rows = stored(seeds=1)
    apart = [replace(row, task="longer") if index < 4 else row for index, row in enumerate(rows)]
    assert [len(group.rows) for group in groups_of(apart)] == [4, 4] or len(groups_of(apart)) == 2
    assert groups_of(rows[:2]) == []


def test_regret_is_what_the_chosen_setting_lacks_to_the_best() -> None:
    rows = stored(seeds=1)
    backwards = [replace(row, figures={"object_knn_top1": -row.ap}) for row in rows]
    found = judge(KNN, groups_of(backwards))
    aps = [row.ap for row in rows]
    assert found.regret.value == pytest.approx(max(aps) - min(aps))
    assert found.run_regret.value == pytest.approx(max(aps) - min(aps))
    assert (found.kendall.value, found.spearman.value, found.hits) == (pytest.approx(-1), pytest.approx(-1), 0)


def test_correlations_are_means_over_choices_and_lie_in_their_intervals() -> None:
    groups = groups_of(stored())
    found = judge(Rule(("object_linear_top1",)), groups)
    expected = []
    for group in groups:
        values = [row.figures["object_linear_top1"] for row in group.rows]
        signs = [
            np.sign((values[i] - values[j]) * (group.means[i] - group.means[j]))
            for i, j in itertools.combinations(range(len(values)), 2)
        ]
        expected.append(np.mean(signs))
    assert found.kendall.value == pytest.approx(np.mean(expected))
    assert found.kendall.low < found.kendall.value < found.kendall.high
    assert judge(Rule(("object_linear_top1",)), groups) == found


def test_expected_regret_is_the_mean_over_random_halves_of_the_candidates() -> None:
    """Of all halves of 8 candidates, enumerated."""
    groups = groups_of(stored(seeds=4))
    exact = []
    for group in groups:
        values = [row.figures["object_logme"] for row in group.rows]
        lost = []
        for half in itertools.combinations(range(8), 4):
            chosen = max(half, key=lambda index: values[index])
            lost.append(max(group.means[list(half)]) - group.means[chosen])
        exact.append(np.mean(lost) / group.deviation)
    assert expected_regrets(LOGME, groups).mean() == pytest.approx(np.mean(exact), rel=0.1)
    assert expected_regrets(KNN, groups).mean() == pytest.approx(0, abs=0.05)
    assert (expected_regrets(replace(LOGME, by=RANKS), groups) == expected_regrets(LOGME, groups)).all()


def test_correlations_are_those_of_scipy_with_ties_too() -> None:
    source = np.random.default_rng(0)
    for x, y in (source.integers(0, 5, (2, 9)) for _ in range(20)):
        expected = stats.kendalltau(x, y).statistic, stats.spearmanr(x, y).statistic
        assert correlations(x, y) == pytest.approx(expected)
    assert np.isnan(correlations(np.ones(4), np.arange(4))).all()
