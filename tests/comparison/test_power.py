"""Forecasts of seeds, against trials and as the command prints them; Dunnett's test against his table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from clop_det.comparison.names import DUNNETT
from clop_det.comparison.results.dunnett import dunnett_p, fit, pooled_differences
from clop_det.comparison.results.judging import Pair, Rules, judge
from clop_det.comparison.results.power import expected_power, forecast, power_table
from clop_det.comparison.results.rows import Row, Setting
from clop_det.comparison.results.statistics import t_test
from clop_det.comparison.results.summary import Comparison, summarise
from clop_det.errors import UserError
from tests.comparison.workplace import Workplace


@pytest.mark.parametrize(("pilot", "seeds", "difference"), [(3, 3, 2.0), (3, 8, 1.0), (5, 6, 1.2), (4, 40, 0.5)])
def test_the_power_is_that_of_seeds_that_are_drawn_one_by_one(pilot: int, seeds: int, difference: float) -> None:
    """A pilot of spread 1: its true spread and its mean are drawn, then the seeds to come, and all are tested."""
    draw, trials = np.random.default_rng(seeds), 20_000
    shape = draw.normal(size=pilot)
    shape = (shape - shape.mean()) / shape.std(ddof=1)
    sigma = np.sqrt((pilot - 1) / draw.chisquare(pilot - 1, trials))[:, None]
    first = shape + difference + sigma / math.sqrt(pilot) * draw.normal(size=(trials, 1))
    later = difference + sigma * draw.normal(size=(trials, seeds - pilot))
    found = stats.ttest_1samp(np.concatenate([first, later], axis=1), 0, axis=1)
    called = float(((found.pvalue < 0.05) & (found.statistic > 0)).mean())
    assert abs(expected_power(1.0, pilot, difference, seeds) - called) < 0.015


@pytest.mark.parametrize(("pilot", "effect"), [(3, 0.8), (5, 1.0), (8, 0.5)])
def test_what_is_forecast_from_a_pilot_is_kept_within_ten_points(pilot: int, effect: float) -> None:
    draw, said, kept, trials = np.random.default_rng(pilot), 0.0, 0, 250
    for _ in range(trials):
        values = [float(value) for value in draw.normal(effect, 1, 1000)]
        std = float(np.std(values[:pilot], ddof=1))
        n = forecast(std, pilot, effect).needed or 1000
        said += expected_power(std, pilot, effect, n)
        kept += t_test(values[:n]) < 0.05 and sum(values[:n]) > 0
    assert said / trials >= 0.8
    assert abs(said - kept) / trials < 0.1


def test_more_rows_a_larger_spread_and_a_smaller_difference_need_more_seeds() -> None:
    base = forecast(1.0, 4, 1.0)
    assert base.needed is not None
    for other in (forecast(1.0, 4, 1.0, comparisons=6), forecast(2.0, 4, 1.0), forecast(1.0, 4, 0.5)):
        assert other.needed is not None
        assert other.needed > base.needed
        assert other.now < base.now
    assert forecast(1.0, 4, 0.01).needed is None
    assert forecast(0.01, 4, 1.0).needed == 4  # never fewer than there are
    with pytest.raises(ValueError, match="at least 2"):
        forecast(1.0, 1, 1.0)


def test_dunnetts_p_at_the_critical_values_of_his_table() -> None:
    """Two-sided, 5 %, equal sizes (Dunnett 1964): (rows, degrees of freedom) -> critical value."""
    table = {(1, 5): 2.571, (2, 5): 3.03, (2, 10): 2.57, (3, 10): 2.76, (3, 20): 2.54, (4, 20): 2.65}
    for (rows, df), critical in table.items():
        assert abs(dunnett_p(critical, rows, df) - 0.05) < 0.0015, (rows, df)
    loose = stats.multivariate_t.cdf([1.9] * 2, df=7, shape=[[1, 0.5], [0.5, 1]], lower_limit=[-1.9] * 2)
    assert abs(dunnett_p(1.9, 2, 7) - (1 - loose)) < 0.003


def test_the_pooled_model_is_the_analysis_of_variance_of_rows_and_seeds() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(size=(3, 4)) + draw.normal(size=4) * 5
    rows = [dict(enumerate(map(float, row))) for row in values]
    model = fit(rows)
    assert model is not None
    design = np.zeros((12, 6))  # rows, then seeds but the first
    for index, (r, s) in enumerate(np.ndindex(3, 4)):
        design[index, r] = 1
        if s:
            design[index, 2 + s] = 1
    squares = float(np.linalg.lstsq(design, values.reshape(-1), rcond=None)[1][0])
    assert model.df == 6
    assert math.isclose(model.std, math.sqrt(squares / 6))
    found = pooled_differences(rows[1:], rows[0])[0]
    assert found is not None
    assert math.isclose(found.interval.mean, float((values[1] - values[0]).mean()))
    half = stats.t.ppf(0.975, 6) * model.std * math.sqrt(2 / 4)
    assert math.isclose(found.interval.half, half, rel_tol=1e-9)
    assert found.p_t <= found.p_corrected
    # A seed that one row lacks counts for none.
    del rows[0][3]
    again = fit(rows)
    assert again is not None
    assert again.seeds == (0, 1, 2)
    assert pooled_differences([{0: 1.0}], {1: 1.0}) == [None]


def test_a_row_without_figures_does_not_silence_dunnetts_test() -> None:
    random, clop = Setting("random", None, "d"), Setting("clop", None, "d")
    pair = Pair({0: 5.0, 1: 6.4, 2: 7.3}, {0: 1.0, 1: 2.0, 2: 3.0}, random)
    alone = judge({clop: pair}, Rules(DUNNETT))
    assert alone[clop].interval.n == 3
    assert judge({clop: pair, Setting("failed", None, "d"): Pair({}, pair.reference, random)}, Rules(DUNNETT)) == alone


def test_a_spread_that_is_rounding_alone_forecasts_nothing() -> None:
    figures = {"random": (0.1, 0.2, 1.0), "clop": (0.3, 0.4, 1.2)}  # differences of .2, which floats give unequal
    rows = [
        Row(Setting(name, None, "d"), seed, "done", {"AP": value})
        for name, values in figures.items()
        for seed, value in enumerate(values)
    ]
    assert len({clop - random for random, clop in zip(*figures.values(), strict=True)}) > 1
    found = Comparison("", "", "random", "AP", rows, summarise(rows, "random", "AP"), {})
    with pytest.raises(UserError, match="nothing can be forecast"):
        power_table(found, 1.0)


def test_the_command_prints_the_seeds_that_are_needed(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    workplace.write({"INITS": ["random", "supcon", "clop"], "SEEDS": [0, 1, 2]})
    with pytest.raises(UserError, match=r"no folder .*out"):
        workplace.run("--power", "1")
    assert workplace.run() == 0
    before = len(workplace.started())
    capsys.readouterr()
    assert workplace.run("--power", "0.5") == 0
    out = capsys.readouterr().out
    assert "Seeds that tell a true difference of 0.5 AP from random with probability 0.8 (paired t test, 2 " in out
    lines = [line.split() for line in out.splitlines() if line.startswith(("supcon", "clop"))]
    assert [line[-4] for line in lines] == ["3", "3"]
    assert all(int(line[-1]) >= 3 for line in lines)
    assert len(workplace.started()) == before
    assert workplace.run("--power", "0.5", "COMPARE.METRIC", "AP50", "COMPARE.BASELINE", "clop") == 0
    assert "of 0.5 AP50 from clop with" in capsys.readouterr().out
    with pytest.raises(UserError, match="--power is -1"):
        workplace.run("--power", "-1")


def test_a_comparison_judged_by_dunnetts_test_says_so(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    workplace.write({"INITS": ["random", "supcon", "clop"], "SEEDS": [0, 1, 2], "TEST": "dunnett"})
    assert workplace.run() == 0
    out = capsys.readouterr().out
    assert "p from Dunnett's test over 2 comparisons." in out
    assert "clop is ahead of random" in (workplace.output / "report" / "results.md").read_text()
