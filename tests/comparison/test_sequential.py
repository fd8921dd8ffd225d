"""Seeds one after the other: settled verdicts cost no job, the matrix's order counts, and nothing else is spared."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import scipy.stats

from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.results.sequential import LEVEL, chances_of, decide
from clop_det.comparison.results.statistics import holm
from clop_det.comparison.results.summary import read_comparison
from clop_det.errors import UserError
from tests.comparison.workplace import Workplace, results

SEEDS = tuple(range(8))


def row(mean: float, spread: float = 1.0, seeds: int = 8, seed: int = 0) -> dict[int, float]:
    draw = np.random.default_rng(seed)
    return dict(zip(SEEDS, map(float, mean + spread * draw.normal(size=seeds)), strict=False))


def test_what_is_open_to_the_end_gets_the_verdict_of_the_whole_matrix() -> None:
    draw, to_the_end = np.random.default_rng(7), 0
    for _ in range(40):
        rows = {effect: dict(enumerate(map(float, effect + draw.normal(size=8)))) for effect in (0.9, 1.0)}
        found = decide(rows, SEEDS)
        if all(decision.seeds == 8 for decision in found.values()):
            to_the_end += 1
            whole = holm([scipy.stats.ttest_1samp(list(own.values()), 0).pvalue for own in rows.values()])
            assert [decision.p for decision in found.values()] == pytest.approx(whole)
    assert to_the_end > 3


def test_a_large_difference_is_settled_at_the_first_look_and_a_small_one_is_not() -> None:
    found = decide({"large": row(30.0), "small": row(0.8, seed=1)}, SEEDS)
    assert (found["large"].settled, found["large"].seeds) == (True, 3)
    assert found["large"].p < LEVEL
    assert found["small"].seeds > 3
    # What comes after a verdict changes nothing.
    later = {"large": {**row(30.0), 3: -500.0, 7: 500.0}, "small": row(0.8, seed=1)}
    assert decide(later, SEEDS)["large"] == found["large"]


def test_an_open_difference_says_how_many_seeds_it_needs_next() -> None:
    given = {seed: value for seed, value in row(1.0, seed=3).items() if seed < 3}
    found = decide({"a": given, "b": {0: 1.0}}, SEEDS)
    assert found["b"].settled is False
    assert found["b"].seeds == 3
    assert decide({"a": {}}, SEEDS)["a"].seeds == 3
    assert math.isnan(decide({"a": {}}, SEEDS)["a"].p)


def test_equal_differences_are_never_called() -> None:
    found = decide({"same": dict.fromkeys(SEEDS, 2.0), "none": dict.fromkeys(SEEDS, 0.0)}, SEEDS)
    assert math.isnan(found["same"].p)
    assert found["same"].settled
    assert not found["none"].p < LEVEL


def test_the_chance_of_a_verdict_agrees_with_futures_that_are_drawn_one_by_one() -> None:
    values, other = [0.9, 0.2, 1.4, 0.5], [0.1, -0.8, 1.1, 0.9]
    draw, trials = np.random.default_rng(5), 1500
    common = math.sqrt(np.var(values, ddof=1) * np.var(other, ddof=1))
    up, both = np.zeros(2), np.zeros(2)
    for _ in range(trials):  # the posterior of mean and spread, then four seeds more
        means, p = [], []
        for own in (values, other):
            sigma = math.sqrt((3 * np.var(own, ddof=1) + common) / draw.chisquare(4))
            whole = [*own, *draw.normal(draw.normal(np.mean(own), sigma / 2), sigma, 4)]
            means.append(np.mean(whole))
            p.append(scipy.stats.ttest_1samp(whole, 0).pvalue)
        called = np.array(p) < (LEVEL if min(p) < LEVEL / 2 else 0)
        called |= np.array([own == min(p) < LEVEL / 2 for own in p])
        up, both = up + (called & (np.array(means) > 0)), both + called
    found = np.array(chances_of([values, other], [], 8))
    assert found == pytest.approx(np.array([up, both]).T / trials, abs=0.06)
    # One that has been called does not count in Holm's correction, one that was given up does.
    alone = chances_of([values], [], 8)[0][1]
    assert chances_of([values], [True], 8)[0][1] == alone
    assert chances_of([values], [False, False], 8)[0][1] < alone - 0.05


def test_false_verdicts_are_as_rare_as_promised() -> None:
    """A coarse check; docs/results/statistics.md has 10,000 trials."""
    draw, called, trials = np.random.default_rng(2), 0, 300
    for _ in range(trials):
        rows = {name: dict(enumerate(map(float, draw.normal(size=6)))) for name in "abc"}
        called += any(item.p < LEVEL for item in decide(rows, range(6)).values())
    assert called / trials < 0.08


def test_a_comparison_runs_later_seeds_only_where_a_verdict_is_open(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.write({"INITS": ["random", "supcon", "clop"], "SEEDS": [5, 1, 2, 0, 4, 3], "SEQUENTIAL": True})
    assert workplace.run("--dry-run") == 0
    assert "leaves out those whose verdict is settled" in capsys.readouterr().out
    assert workplace.run() == 0
    started = [line.split()[1] for line in workplace.started() if "detect-" in line]
    seeds = {
        name: sorted(int(re.findall(r"-s(\d)-", line)[0]) for line in started if f"-{name}-" in line)
        for name in ("random", "supcon", "clop")
    }
    assert seeds["clop"] == [1, 2, 5]  # the first three of the matrix: 9 AP apart, a spread of .4
    out = capsys.readouterr().out
    runs = sum(map(len, seeds.values()))
    assert f"(COMPARE.SEQUENTIAL): {18 - runs} of 18 runs were not needed" in out
    assert "over the seeds that the row took, Holm-corrected over 2 comparisons" in out
    comparison = read_comparison([workplace.output])
    assert comparison.complete
    assert len(comparison.rows) == runs == len(results(workplace))
    assert {s.setting.init: s.difference.verdict for s in comparison.summaries if s.difference} == dict.fromkeys(
        ("supcon", "clop"), "ahead"
    )
    before = len(workplace.started())
    assert workplace.run() == 0
    assert len(workplace.started()) == before


def test_seeds_of_an_open_verdict_are_missing_and_not_spared(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.write({"INITS": ["random", "clop"], "SEEDS": [0, 1, 2, 3, 4], "SEQUENTIAL": True})
    assert workplace.run("--only", "detect*-s0-*") == 0
    out = capsys.readouterr().out
    assert "(COMPARE.SEQUENTIAL): 0 of 10 runs were not needed" in out
    assert "8 of 10 runs have no final AP yet." in out


def test_what_cannot_be_run_in_sequence_is_refused(workplace: Workplace) -> None:
    tuned = {"CONFIG": "detect.yaml", "GRID": {"SOLVER.BASE_LR": [1, 2]}, "SELECT": {"BY": "a", "REPORT": "b"}}
    for changes, message in (
        ({"SEEDS": [0, 1, 2]}, "first looks after 3 seeds, but COMPARE.SEEDS has only 3"),
        ({"TEST": "dunnett"}, "COMPARE.TEST dunnett cannot judge"),
        ({"DETECTION": [tuned]}, "chooses its setting over all of them"),
    ):
        path = workplace.write({"SEEDS": [0, 1, 2, 3], "SEQUENTIAL": True, **changes})
        with pytest.raises(UserError, match=message):
            read_matrix(load_compare_config(path), path.parent)
