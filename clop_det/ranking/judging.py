"""What choosing by a rule costs in AP, and how well its scores order fine-tunings: from stored comparisons alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clop_det.ranking.calibration_table import CalibrationRow
from clop_det.ranking.rule import Rule, goodness

LEAST = 3  # candidates of a choice
_DRAWS = 300  # of candidates, for intervals
_SUBSETS = 200  # halves of the candidates, on which rules are chosen


@dataclass(frozen=True)
class Group:
    """One choice: the fine-tunings of one seed on one data set by one schedule, of which the best is looked for.

    Attributes:
        rows: the candidates, one a setting.
        ap: (C,) AP of the very runs.
        means: (C,) AP of the settings, as means over all their seeds.
        figures: measure -> (C,), turned so that more is better.
        deviation: of AP over the seeds of a setting, pooled over the task; NaN: not known, or 0.
    """

    rows: tuple[CalibrationRow, ...]
    ap: np.ndarray
    means: np.ndarray
    figures: Mapping[str, np.ndarray]
    deviation: float

    def values(self, measures: Sequence[str]) -> np.ndarray:
        """(C, M) figures."""
        return np.stack([self.figures[name] for name in measures], axis=1)

    def part(self, chosen: np.ndarray) -> Group:
        """The candidates at some indices."""
        figures = {name: values[chosen] for name, values in self.figures.items()}
        rows = tuple(self.rows[index] for index in chosen)
        return Group(rows, self.ap[chosen], self.means[chosen], figures, self.deviation)


@dataclass(frozen=True)
class Bounded:
    """A figure with its 95 % interval from drawing the settings anew."""

    value: float
    low: float
    high: float

    def text(self, decimals: int = 2) -> str:
        """ "0.12 [0.05, 0.30]"; a dash: not known."""
        if math.isnan(self.value):
            return "–"  # noqa: RUF001 (a dash)
        return f"{self.value:.{decimals}f} [{self.low:.{decimals}f}, {self.high:.{decimals}f}]"


@dataclass(frozen=True)
class Judged:
    """How well a rule does, as means over the choices.

    Attributes:
        hits: share of the choices in which the best setting is chosen.
        regret: AP of the setting that is best, as a mean over its seeds, less AP of the chosen one.
        regret_deviations: the same in standard deviations of AP over seeds.
        run_regret: AP of the best run less AP of the chosen run; even a perfect rule loses the luck of a run here.
    """

    rule: Rule
    hits: float
    regret: Bounded
    regret_deviations: Bounded
    run_regret: Bounded
    kendall: Bounded
    spearman: Bounded


def groups_of(rows: Iterable[CalibrationRow]) -> list[Group]:
    """The choices that stored runs give; those of fewer than three candidates are left out."""
    kept = list(rows)
    by_setting: dict[tuple[str, str], list[float]] = {}
    for row in kept:
        by_setting.setdefault((row.task, row.setting), []).append(row.ap)
    spreads: dict[str, list[tuple[float, int]]] = {}
    for (task, _), found in by_setting.items():
        if len(found) > 1:
            spreads.setdefault(task, []).append((float(np.var(found, ddof=1)), len(found) - 1))
    choices: dict[tuple[str, int], list[CalibrationRow]] = {}
    for row in kept:
        choices.setdefault((row.task, row.seed), []).append(row)
    groups = []
    for (task, _), candidates in choices.items():
        if len(candidates) >= LEAST:
            pooled = spreads.get(task, [])
            freedom = sum(count for _, count in pooled)
            variance = sum(v * count for v, count in pooled) / freedom if freedom else 0.0
            deviation = math.sqrt(variance) if variance > 0 else math.nan
            groups.append(_group(candidates, by_setting, deviation))
    return groups


def _group(
    rows: Sequence[CalibrationRow], by_setting: Mapping[tuple[str, str], Sequence[float]], deviation: float
) -> Group:
    means = np.array([np.mean(by_setting[row.task, row.setting]) for row in rows])
    named = [name for name in rows[0].figures if all(name in row.figures for row in rows)]
    figures = {name: np.array([goodness(name, row.figures[name]) for row in rows]) for name in named}
    return Group(tuple(rows), np.array([row.ap for row in rows]), means, figures, deviation)


def judge(rule: Rule, groups: Sequence[Group], seed: int = 0) -> Judged:
    """A rule on all choices; intervals from drawing the settings of each task with replacement."""
    value = _over_choices(rule, groups)
    draws = (_drawn(groups, np.random.default_rng([seed, draw])) for draw in range(_DRAWS))
    spread = np.array([_over_choices(rule, drawn) for drawn in draws])
    found = []
    for index in range(len(value)):
        known = spread[~np.isnan(spread[:, index]), index]
        low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (math.nan, math.nan)
        found.append(Bounded(float(value[index]), float(low), float(high)))
    hits = np.mean([_regret(_scores(rule, group), group.means) == 0 for group in groups])
    return Judged(rule, float(hits), *found)


def _over_choices(rule: Rule, groups: Sequence[Group]) -> np.ndarray:
    """(5,) the bounded figures of `Judged`, in order, as means over the choices that have them."""
    found = np.full((len(groups) or 1, 5), math.nan)
    for row, group in zip(found, groups, strict=False):
        scores = _scores(rule, group)
        regret = _regret(scores, group.means)
        row[:] = regret, regret / group.deviation, _regret(scores, group.ap), *correlations(scores, group.means)
    counts = (~np.isnan(found)).sum(axis=0)
    means: np.ndarray = np.where(counts, np.nansum(found, axis=0) / np.maximum(counts, 1), math.nan)
    return means


def correlations(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Kendall's tau-b and Spearman's rho; NaN where all of x or all of y are equal."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan
    one, other = (np.sign(v[:, None] - v) for v in (x, y))
    tau = (one * other).sum() / math.sqrt(np.abs(one).sum() * np.abs(other).sum())
    ranks = one.sum(axis=1), other.sum(axis=1)  # how many are below less how many above: mean ranks, shifted and scaled
    rho = (ranks[0] * ranks[1]).sum() / math.sqrt(np.square(ranks[0]).sum() * np.square(ranks[1]).sum())
    return float(tau), float(rho)


def expected_regrets(rule: Rule, groups: Sequence[Group]) -> np.ndarray:
    """(G,) mean regret, in deviations over seeds, over random halves of the candidates of each choice.

    Rules are chosen by it, since it moves with every candidate and not only with the best one.
    """
    found = []
    for index, group in enumerate(groups):
        scores, source = _scores(rule, group), np.random.default_rng(index)
        keys = source.random((_SUBSETS, len(scores)))
        taken = keys <= np.sort(keys, axis=1)[:, [max(LEAST, (len(scores) + 1) // 2) - 1]]
        chosen = np.where(taken, scores, -np.inf).argmax(axis=1)
        lost = np.where(taken, group.means, -np.inf).max(axis=1) - group.means[chosen]
        found.append(lost.mean() / (group.deviation if group.deviation > 0 else 1.0))
    return np.array(found)


def _scores(rule: Rule, group: Group) -> np.ndarray:
    return rule.scores(group.values(rule.measures))


def _regret(scores: np.ndarray, ap: np.ndarray) -> float:
    return float(ap.max() - ap[scores.argmax()])


def _drawn(groups: Sequence[Group], source: np.random.Generator) -> list[Group]:
    """The choices with their settings drawn with replacement, the same draw for all seeds of a task."""
    counts: dict[str, dict[str, int]] = {}
    found = []
    for task in dict.fromkeys(group.rows[0].task for group in groups):
        settings = sorted({row.setting for group in groups if group.rows[0].task == task for row in group.rows})
        drawn = source.choice(len(settings), len(settings))
        counts[task] = {name: int((drawn == index).sum()) for index, name in enumerate(settings)}
    for group in groups:
        times = [counts[row.task][row.setting] for row in group.rows]
        chosen = np.repeat(np.arange(len(times)), times)
        if len(set(chosen.tolist())) >= LEAST:
            found.append(group.part(chosen))
    return found
