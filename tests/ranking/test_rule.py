from __future__ import annotations

import numpy as np
import pytest

from clop_det.ranking.measuring import SPLITS, Measured
from clop_det.ranking.rule import RANKS, Rule, goodness, standings, verdict


def measured(values: list[float], halves: list[list[tuple[float, float]]] | None = None) -> Measured:
    names = [f"m{index}" for index in range(len(values))]
    pairs = halves or [[(value, value)] * SPLITS for value in values]
    return Measured(dict(zip(names, values, strict=True)), dict(zip(names, pairs, strict=True)))


def test_the_score_is_the_mean_of_standard_scores_and_scale_does_not_count() -> None:
    table = {"a": measured([0.9, 10.0]), "b": measured([0.5, 30.0]), "c": measured([0.1, 20.0])}
    found = standings(table, Rule(("m0", "m1")))
    values = np.array([[0.9, 10], [0.5, 30], [0.1, 20]])
    scores = ((values - values.mean(0)) / values.std(0)).mean(1)
    assert [standing.name for standing in found] == ["b", "a", "c"]
    assert [standing.score for standing in found] == pytest.approx(sorted(scores, reverse=True))
    assert [standing.behind for standing in found] == pytest.approx(max(scores) - np.sort(scores)[::-1])


def test_a_difference_that_turns_over_between_halves_is_uncertain() -> None:
    """One measure whose values are 0 and 2, so that its deviation is 1; the difference is 3 in one half, 1 in the
    other: variance (3 - 1)^2 / 4 = 1."""
    table = {"a": measured([2.0], [[(3.0, 1.0)] * SPLITS]), "b": measured([0.0], [[(0.0, 0.0)] * SPLITS])}
    leader, other = standings(table, Rule(("m0",)))
    assert (leader.behind, leader.uncertain) == (0, 0)
    assert other.behind == pytest.approx(2)
    assert other.uncertain == pytest.approx(2.571)
    assert not other.apart


@pytest.mark.parametrize("seed", range(3))
def test_its_uncertainty_is_that_of_fresh_images(seed: int) -> None:
    """A measure that is a mean over 400 images: the interval from halves is that of drawing other images."""
    source = np.random.default_rng(seed)
    per_image = source.normal(size=(2, 400)) + np.array([[0.0], [0.2]])
    halves: list[list[tuple[float, float]]] = [[], []]
    for _ in range(SPLITS):
        order = source.permutation(400)
        for row, pairs in zip(per_image, halves, strict=True):
            pairs.append((row[order[:200]].mean(), row[order[200:]].mean()))
    means = per_image.mean(1)
    table = {name: measured([means[i]], [halves[i]]) for i, name in enumerate("ab")}
    expected = 2.571 * np.sqrt(2 / 400) / means.std()
    assert standings(table, Rule(("m0",)))[1].uncertain == pytest.approx(expected, rel=0.7)


def test_the_verdict_says_whom_the_leader_is_told_apart_from() -> None:
    sure = {name: measured([value]) for name, value in (("a", 3.0), ("b", 2.0), ("c", 1.0))}
    assert verdict(standings(sure, Rule(("m0",)))).startswith("a leads; its score is told apart from those of all")
    noisy = [[(4.0, 0.0)] * SPLITS]
    close = sure | {"b": measured([2.0], noisy)}
    assert verdict(standings(close, Rule(("m0",)))) == "a leads, but is not told apart from b: fine-tune these."
    equal = {name: measured([1.0]) for name in "ab"}
    assert "cannot tell" in verdict(standings(equal, Rule(("m0",))))
    assert "only checkpoint" in verdict(standings({"a": measured([1.0])}, Rule(("m0",))))


@pytest.mark.parametrize("gap", [0.0, 1e-14])
def test_a_measure_on_which_all_agree_counts_for_nothing(gap: float) -> None:
    """The deviation of three times 0.1 is 1e-17, not 0."""
    halves = [[(0.2, 0.0)] * SPLITS, [(0.0, 0.2)] * SPLITS, [(0.1, 0.1)] * SPLITS]
    table = {name: measured([0.1 + gap * index], [halves[index]]) for index, name in enumerate("abc")}
    found = standings(table, Rule(("m0",)))
    assert [(standing.score, standing.behind, standing.uncertain) for standing in found] == [(0, 0, 0)] * 3
    assert "cannot tell" in verdict(found)


def test_ranks_run_from_0_to_1_and_ties_share_theirs() -> None:
    table = {"a": measured([9.0, 1.0]), "b": measured([2.0, 1.0]), "c": measured([1.0, 5.0])}
    found = {standing.name: standing.score for standing in standings(table, Rule(("m0", "m1"), RANKS))}
    assert found == pytest.approx({"a": (1 + 0.25) / 2, "b": (0.5 + 0.25) / 2, "c": (0 + 1) / 2})


def test_a_calibration_keeps_small_differences_small_and_adds_a_margin() -> None:
    """Values .5 and .6 deviate by .05; where checkpoints usually deviate by .1, they are one such deviation apart."""
    table = {"a": measured([0.6]), "b": measured([0.5])}
    free, held = (standings(table, Rule(("m0",), spreads=spreads))[1].behind for spreads in ({}, {"m0": 0.1}))
    assert (free, held) == (pytest.approx(2), pytest.approx(1))
    assert standings(table, Rule(("m0",), margin=1.9))[1].apart
    assert not standings(table, Rule(("m0",), margin=2.1))[1].apart


@pytest.mark.parametrize(
    ("name", "worse", "better"),
    [
        ("object_knn_top1", 0.1, 0.2),
        ("object_idest", 9.0, 5.0),
        ("object_alpha_req", 0.4, 1.3),
        ("object_sigreg", 2, 1),
    ],
)
def test_a_figure_is_turned_so_that_more_is_better(name: str, worse: float, better: float) -> None:
    assert goodness(name, better) > goodness(name, worse)
