"""The rule is chosen on stored fine-tunings, and judged on losses and data sets that had no part in the choice."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clop_det.errors import UserError
from clop_det.figures import CATALOGUE, SETTING
from clop_det.ranking.calibration_table import CalibrationRow, read_table
from clop_det.ranking.judging import Group, Judged, expected_regrets, groups_of, judge
from clop_det.ranking.measuring import RULE_MEASURES
from clop_det.ranking.rule import DEVIATIONS, PLAIN, RANKS, Rule

SHIPPED = Path(__file__).with_name("calibration.csv")
_LARGEST_SET = 3
_RIGHT, _LEAST_PAIRS = 0.95, 20  # of the pairs at least the margin apart


@dataclass(frozen=True)
class LeftOut:
    """What rules chosen without a loss (or a data set) lose where it is back among the candidates.

    Attributes:
        regrets, deviations: mean regret in AP and in standard deviations over seeds, by what was left out.
        chosen: how often each rule was chosen.
    """

    regrets: dict[str, float]
    deviations: dict[str, float]
    chosen: Counter[str]

    @property
    def mean(self) -> tuple[float, float]:
        """Over all that was left out, in AP and in deviations (of those that have several seeds)."""
        known = [value for value in self.deviations.values() if not math.isnan(value)]
        return float(np.mean(list(self.regrets.values()))), float(np.mean(known)) if known else math.nan


@dataclass(frozen=True)
class Calibration:
    """What stored fine-tunings say of the rules.

    Attributes:
        rows: the table.
        groups: the choices that it holds.
        rule: the best of `candidate_rules`, with its margin.
        judged: that rule, the one without a calibration, and each measure alone.
        by_loss, by_data: None: without one of them no choice among three settings is left.
    """

    rows: tuple[CalibrationRow, ...]
    groups: tuple[Group, ...]
    rule: Rule
    judged: tuple[Judged, ...]
    by_loss: LeftOut | None
    by_data: LeftOut | None

    @property
    def cost(self) -> float:
        """Cost of the figures as a share of that of the fine-tunings; NaN: not known."""
        known = [row for row in self.rows if row.tuning_seconds > 0 and row.ranking_seconds >= 0]
        tuning = sum(row.tuning_seconds for row in known)
        return sum(row.ranking_seconds for row in known) / tuning if tuning else math.nan


def calibration(rows: Sequence[CalibrationRow]) -> Calibration:
    """Choose and judge.

    Raises:
        UserError: no choice among three settings.
    """
    groups = _groups(rows)
    rule = learn(rows)
    alone = [Rule((name,)) for name in measures_of(groups)]
    judged = tuple(judge(each, groups) for each in [rule, PLAIN, *alone])
    by_loss = _left_out(groups, lambda row: row.loss or row.init)  # of a method, a given file or random: its name
    by_data = _left_out(groups, lambda row: row.data)
    return Calibration(tuple(rows), tuple(groups), rule, judged, by_loss, by_data)


def learn(rows: Sequence[CalibrationRow]) -> Rule:
    """The rule that stored fine-tunings ask for.

    Raises:
        UserError: no choice among three settings.
    """
    groups = _groups(rows)
    rule = choose(groups)
    if rule.by == DEVIATIONS:
        spreads = {name: float(np.median([group.values([name]).std() for group in groups])) for name in rule.measures}
        rule = replace(rule, spreads=spreads)
    runs = sum(len(group.rows) for group in groups)
    return replace(rule, margin=margin(rule, groups), runs=runs)


def shipped_rule() -> Rule:
    """The rule of the project's own calibration; `PLAIN` where there is none."""
    return learn(read_table(SHIPPED)) if SHIPPED.is_file() else PLAIN


def choose(groups: Sequence[Group]) -> Rule:
    """Of the rules that are not told from the one of least expected regret, the shortest, and of these the best.

    Not told apart: they lose no more than one standard error of the difference over the tasks (Breiman et al. 1984,
    Classification and Regression Trees, section 3.4.3). Hundreds of rules are tried on few tasks, so that the least
    alone is the luck of a set of three measures. With one task there is no such error, and the least is taken.
    """
    tasks = list(dict.fromkeys(group.rows[0].task for group in groups))
    member = np.array([[group.rows[0].task == task for group in groups] for task in tasks])
    rules = candidate_rules(groups)
    regrets = np.array([expected_regrets(rule, groups) for rule in rules])
    best = regrets.mean(axis=1).argmin()
    behind = (regrets - regrets[best]) @ member.T / member.sum(axis=1)  # (rules, tasks)
    error = behind.std(axis=1, ddof=1) / math.sqrt(len(tasks)) if len(tasks) > 1 else np.zeros(len(rules))
    equal = np.flatnonzero(behind.mean(axis=1) <= error)
    return rules[min(equal, key=lambda index: (len(rules[index].measures), regrets[index].mean()))]


def candidate_rules(groups: Sequence[Group]) -> list[Rule]:
    """Each measure of `RULE_MEASURES` alone, sets of two and three by deviations and by ranks, and `PLAIN`."""
    known = [name for name in measures_of(groups) if name in RULE_MEASURES]
    alone = [Rule((name,)) for name in known]
    sets = [s for size in range(2, _LARGEST_SET + 1) for s in itertools.combinations(known, size)]
    return [*alone, *([PLAIN] if set(PLAIN.measures) <= set(known) else []),
            *(Rule(names, by) for names in sets for by in (DEVIATIONS, RANKS))]  # fmt: skip


def measures_of(groups: Sequence[Group]) -> list[str]:
    """Those that every run has, in order."""
    named = [name for name in groups[0].figures if CATALOGUE.find(name).group != SETTING]
    return [name for name in named if all(name in group.figures for group in groups)]


def margin(rule: Rule, groups: Sequence[Group]) -> float:
    """Least difference between scores from which on 95 % of the pairs are ordered as their settings' AP.

    Infinite where no 20 pairs are.
    """
    gaps, right = [], []
    for group in groups:
        scores = rule.scores(group.values(rule.measures))
        for one, other in itertools.combinations(range(len(scores)), 2):
            gaps.append(abs(scores[one] - scores[other]))
            right.append((scores[one] - scores[other]) * (group.means[one] - group.means[other]) > 0)
    order = np.argsort(gaps)[::-1]
    hits = np.cumsum(np.array(right)[order])
    counts = np.arange(1, len(order) + 1)
    good = np.flatnonzero((hits >= _RIGHT * counts) & (counts >= _LEAST_PAIRS))
    return float(np.array(gaps)[order[good[-1]]]) if len(good) else math.inf


def _groups(rows: Sequence[CalibrationRow]) -> list[Group]:
    groups = groups_of(rows)
    if not groups or not any(name in RULE_MEASURES for name in measures_of(groups)):
        raise UserError(
            f"the {len(rows)} finished runs hold no three settings of one seed on one data set and schedule, with the"
            " same measures, so there is nothing to choose from. Add comparisons."
        )
    return groups


def _left_out(groups: Sequence[Group], kind: Callable[[CalibrationRow], str]) -> LeftOut | None:
    kinds = list(dict.fromkeys(kind(row) for group in groups for row in group.rows))
    regrets, deviations, chosen = {}, {}, Counter[str]()
    for name in kinds:
        others = [_without(group, name, kind) for group in groups]
        others = [group for group in others if len(group.rows) >= 3]
        held = [group for group in groups if any(kind(row) == name for row in group.rows)]
        if not others or len(kinds) < 2:
            continue
        rule = choose(others)
        lost = [group.means.max() - group.means[rule.scores(group.values(rule.measures)).argmax()] for group in held]
        regrets[name] = float(np.mean(lost))
        known = [x / group.deviation for x, group in zip(lost, held, strict=True) if not math.isnan(group.deviation)]
        deviations[name] = float(np.mean(known)) if known else math.nan
        chosen[rule.name] += 1
    return LeftOut(regrets, deviations, chosen) if regrets else None


def _without(group: Group, name: str, kind: Callable[[CalibrationRow], str]) -> Group:
    return group.part(np.array([i for i, row in enumerate(group.rows) if kind(row) != name], dtype=int))
