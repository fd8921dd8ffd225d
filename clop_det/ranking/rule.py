"""A rule: from the figures of several checkpoints to one score each, and which scores can be told apart.

The score is the mean over the rule's measures of how a checkpoint stands among all: by how many standard deviations it
lies above their mean, or its rank. How certain a difference between two scores is follows from the same difference on
two halves of the images: with independent halves, a quarter of the mean squared difference between halves is the
variance on all images. A calibration adds from which difference on scores order fine-tunings as their AP does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from clop_det.figures import CATALOGUE, LOWER
from clop_det.ranking.measuring import SPLITS, Measured

DEVIATIONS, RANKS = "deviations", "ranks"
_SAME = 1e-9  # figures of all checkpoints that lie no farther apart are equal but for rounding
# Student's t at 95 % with as many degrees of freedom as there are splittings.
_APART = {5: 2.571}[SPLITS]


@dataclass(frozen=True)
class Rule:
    """How figures become a score.

    Attributes:
        measures: whose standings are averaged.
        by: `DEVIATIONS` or `RANKS`; ranks run from 0 to 1.
        spreads: least standard deviation of a measure; where checkpoints lie closer, their differences count less.
        margin: a smaller difference between two scores does not tell which fine-tuning is better.
        runs: fine-tunings that the rule was chosen on; 0: it is not calibrated.
    """

    measures: tuple[str, ...]
    by: str = DEVIATIONS
    spreads: Mapping[str, float] = field(default_factory=dict)
    margin: float = 0.0
    runs: int = 0

    @property
    def name(self) -> str:
        """ "linear on boxes + kNN on boxes, by ranks"."""
        labels = " + ".join(CATALOGUE.find(measure).label for measure in self.measures)
        return labels if len(self.measures) == 1 else f"{labels}, by {self.by}"

    def scores(self, values: np.ndarray, like: np.ndarray | None = None) -> np.ndarray:
        """(C, M, ...) figures of C checkpoints, higher is better -> (C, ...) scores.

        `like`: (C, M) whose mean and deviation are taken instead, for figures of a part of the images.
        """
        if self.by == RANKS:
            ranked: np.ndarray = (rankdata(values, axis=0) - 1) / max(1, len(values) - 1)
            mean: np.ndarray = ranked.mean(axis=1)
            return mean
        reference = values if like is None else like
        spread, least = reference.std(axis=0), np.array([self.spreads.get(name, 0.0) for name in self.measures])
        varies = np.ptp(reference, axis=0) > _SAME  # the deviation of equal values is seldom exactly 0
        weights = np.where(varies, 1 / np.where(varies, np.maximum(spread, least), 1), 0) / len(self.measures)
        found: np.ndarray = np.einsum("cm...,m->c...", values - values.mean(axis=0), weights)
        return found


# The rule where nothing is calibrated.
PLAIN = Rule(("object_linear_top1", "object_knn_top1", "object_logme", "location_r2"))


def goodness(name: str, value: float) -> float:
    """A figure, turned so that more is better: alpha-ReQ is best near 1, of intrinsic dimensions fewer are better."""
    if name.endswith("alpha_req"):
        return -abs(value - 1)
    lower = CATALOGUE.find(name).better == LOWER or name.endswith("two_nn")
    return -value if lower else value


@dataclass(frozen=True)
class Standing:
    """Where a checkpoint stands.

    Attributes:
        name: of the checkpoint.
        score: of the rule; higher is better.
        behind: how far its score is behind the leader's.
        uncertain: half of the 95 % interval of `behind`, from halves of the images.
        margin: of the rule.
    """

    name: str
    score: float
    behind: float
    uncertain: float
    margin: float = 0.0

    @property
    def apart(self) -> bool:
        """Whether it is told apart from the leader."""
        return self.behind > max(self.uncertain, self.margin)


def standings(measured: Mapping[str, Measured], rule: Rule) -> list[Standing]:
    """The checkpoints by score, the best first; equal scores in the order given.

    Args:
        measured: at least one checkpoint.
        rule: of `RULE_MEASURES`, all of which are better when higher.
    """
    names = list(measured)
    values = np.array([[measured[name].figures[m] for m in rule.measures] for name in names])  # (C, M)
    halves = np.array([[measured[name].halves[m] for m in rule.measures] for name in names])  # (C, M, splits, 2)
    scores, by_half = rule.scores(values), rule.scores(halves, like=values)
    order = sorted(range(len(names)), key=lambda index: -scores[index])
    leader = order[0]
    found = []
    for index in order:
        difference = by_half[leader] - by_half[index]
        variance = np.square(difference[:, 0] - difference[:, 1]).mean() / 4
        behind, uncertain = float(scores[leader] - scores[index]), float(_APART * np.sqrt(variance))
        found.append(Standing(names[index], float(scores[index]), behind, uncertain, rule.margin))
    return found


def verdict(found: Sequence[Standing]) -> str:
    """One sentence about who leads."""
    leader, *others = found
    close = [standing.name for standing in others if not standing.apart]
    if not others:
        return f"{leader.name} is the only checkpoint that could be measured."
    if not close:
        return f"{leader.name} leads; its score is told apart from those of all others."
    if len(close) == len(others):
        return "The scores cannot tell the checkpoints apart: fine-tune them, or take the cheapest."
    return f"{leader.name} leads, but is not told apart from {', '.join(close)}: fine-tune these."
