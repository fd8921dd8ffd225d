"""Statistics against SciPy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from clop_det.comparison.results.statistics import (
    correlation,
    holm,
    mean_interval,
    paired_difference,
    permutation_test,
    ranks,
    t_test,
)

VALUES = st.lists(st.floats(-100, 100).map(lambda x: round(x, 3)), min_size=2, max_size=8)


@given(VALUES)
def test_mean_interval_is_scipys(values: list[float]) -> None:
    ours = mean_interval(values)
    assert ours.mean == pytest.approx(np.mean(values), abs=1e-9)
    if np.ptp(values) > 1e-6:
        low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
        assert (ours.low, ours.high) == (
            pytest.approx(low, rel=1e-9, abs=1e-9),
            pytest.approx(high, rel=1e-9, abs=1e-9),
        )
        assert ours.half == pytest.approx((high - low) / 2, rel=1e-9)


def test_mean_interval_of_one_value_has_no_width() -> None:
    interval = mean_interval([3.0])
    assert interval.mean == 3.0
    assert interval.n == 1
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    assert math.isnan(interval.std)


@pytest.mark.parametrize(("values", "level"), [([], 0.95), ([1.0], 0.0), ([1.0], 1.0)])
def test_mean_interval_refuses(values: list[float], level: float) -> None:
    with pytest.raises(ValueError, match="must"):
        mean_interval(values, level)


def test_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        interval = mean_interval(draw.normal(5, 2, size=3).tolist())
        hits += interval.low <= 5 <= interval.high
    assert 0.935 < hits / 2000 < 0.965


@given(VALUES)
def test_t_test_is_scipys(values: list[float]) -> None:
    if np.ptp(values) > 1e-6:
        assert t_test(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-7, abs=1e-300)


def test_t_test_without_spread() -> None:
    assert t_test([0.0, 0.0]) == 1.0
    assert math.isnan(t_test([1.0, 1.0]))
    assert math.isnan(t_test([0.43 - 0.42, 0.33 - 0.32]))  # equal but for rounding


def test_equal_differences_are_no_verdict() -> None:
    """Two seeds and an accuracy over 300 images: one difference in 25 would otherwise be certain, by chance."""
    difference = paired_difference({0: 0.43, 1: 0.33}, {0: 0.42, 1: 0.32})
    assert difference is not None
    assert difference.verdict == "no spread"
    assert math.isnan(difference.interval.low)
    assert math.isnan(difference.p_t)
    assert difference.interval.mean == pytest.approx(0.01)


def test_false_verdicts_of_coarse_figures_stay_below_five_percent() -> None:
    """Twenty null differences over two seeds, accuracies over 300 images: under 5 % of such tables have a verdict."""
    draw = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        tests = [
            paired_difference(*({seed: round(draw.normal(120, 4.5)) / 300 for seed in (0, 1)} for _ in range(2)))
            for _ in range(20)
        ]
        wrong += any(p < 0.05 for p in holm([test.p_t for test in tests if test]))
    assert wrong / 400 < 0.05
    assert math.isnan(t_test([1.0]))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-20, 20).map(float), min_size=2, max_size=7))
def test_permutation_test_is_scipys(values: list[float]) -> None:
    reference = stats.permutation_test(
        (np.array(values),), lambda x, axis: np.abs(x.sum(axis=axis)), permutation_type="samples", alternative="greater"
    )
    assert permutation_test(values) == pytest.approx(reference.pvalue, abs=1e-12)


def test_permutation_test_cannot_fall_below_its_floor() -> None:
    assert permutation_test([5.0, 6.0, 7.0]) == 0.25
    assert permutation_test([1.0] * 8) == 2 / 2**8


def test_permutation_test_drawn_agrees_with_the_exact_one() -> None:
    draw = np.random.default_rng(1)
    values = (draw.normal(0.5, 1, size=16)).tolist()
    sums = np.array([[1 if (k >> i) & 1 else -1 for i in range(16)] for k in range(2**16)]) @ np.array(values)
    exact = float(np.mean(np.abs(sums) >= abs(sum(values)) - 1e-9))
    assert permutation_test(values) == pytest.approx(exact, abs=0.012)
    assert permutation_test(values) == permutation_test(values)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_against_its_definition(p_values: list[float]) -> None:
    corrected = holm(p_values)
    order = np.argsort(p_values, kind="stable")
    for rank, index in enumerate(order):
        steps = [min(1.0, (len(p_values) - r) * p_values[order[r]]) for r in range(rank + 1)]
        assert corrected[index] == pytest.approx(max(steps))


def test_holm_by_hand_and_with_missing_values() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    corrected = holm([0.01, math.nan, 0.03])
    assert corrected[0] == pytest.approx(0.02)
    assert corrected[2] == pytest.approx(0.03)
    assert math.isnan(corrected[1])


def test_paired_difference_uses_common_seeds_only() -> None:
    difference = paired_difference({0: 5.0, 1: 7.0, 9: 100.0}, {0: 4.0, 1: 5.0, 2: -50.0})
    assert difference is not None
    assert difference.interval.mean == 1.5
    assert difference.interval.n == 2
    assert difference.p_t == pytest.approx(stats.ttest_rel([5, 7], [4, 5]).pvalue)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


def test_pairing_sees_what_a_comparison_of_means_cannot() -> None:
    a, b = {s: 10.0 * s + 1 + 0.01 * s for s in range(5)}, {s: 10.0 * s for s in range(5)}
    paired = paired_difference(a, b)
    assert paired is not None
    assert paired.p_t < 1e-6
    assert stats.ttest_ind(list(a.values()), list(b.values())).pvalue > 0.9


def test_verdict_needs_two_seeds_and_a_corrected_p() -> None:
    one = paired_difference({0: 9.0}, {0: 1.0})
    assert one is not None
    assert one.verdict == "one seed"
    two = paired_difference({0: 9.0, 1: 9.1}, {0: 1.0, 1: 1.0})
    assert two is not None
    assert two.verdict == "not shown"


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=3, max_size=10))
def test_correlations_are_scipys(pairs: list[tuple[int, int]]) -> None:
    x, y = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert correlation(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-9)
        assert correlation(ranks(x), ranks(y)) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    else:
        assert math.isnan(correlation(x, y))


def test_correlation_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="same length"):
        correlation([1.0], [1.0, 2.0])
