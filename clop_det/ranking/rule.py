"""The rule: from the figures of several checkpoints to one score each, and which scores can be told apart.

The score is the mean, over the rule's measures, of how many standard deviations a checkpoint lies above the mean of all
checkpoints. How certain a difference between two scores is follows from the same difference on two halves of the
images: with independent halves, a quarter of the mean squared difference between halves is the variance on all images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clop_det.ranking.measuring import SPLITS, Measured

_SAME = 1e-9  # figures of all checkpoints that lie no farther apart are equal but for rounding
# Student's t at 95 % with as many degrees of freedom as there are splittings.
_APART = {5: 2.571}[SPLITS]


@dataclass(frozen=True)
class Standing:
    """Where a checkpoint stands.

    Attributes:
        name: of the checkpoint.
        score: in standard deviations over the checkpoints; higher is better.
        behind: how far its score is behind the leader's.
        uncertain: half of the 95 % interval of `behind`, from halves of the images.
    """

    name: str
    score: float
    behind: float
    uncertain: float

    @property
    def apart(self) -> bool:
        """Whether it is told apart from the leader."""
        return self.behind > self.uncertain


def standings(measured: Mapping[str, Measured], measures: Sequence[str]) -> list[Standing]:
    """The checkpoints by score, the best first; equal scores in the order given.

    Args:
        measured: at least two checkpoints.
        measures: of `RULE_MEASURES`; all of them are better when higher.
    """
    names = list(measured)
    values = np.array([[measured[name].figures[m] for m in measures] for name in names])  # (C, M)
    halves = np.array([[measured[name].halves[m] for m in measures] for name in names])  # (C, M, splits, 2)
    spread = values.std(axis=0)
    varies = np.ptp(values, axis=0) > _SAME  # the deviation of equal values is seldom exactly 0
    weights = np.where(varies, 1 / np.where(varies, spread, 1), 0) / len(measures)
    scores = (values - values.mean(axis=0)) @ weights
    by_half = np.einsum("cmsh,m->csh", halves, weights)
    order = sorted(range(len(names)), key=lambda index: -scores[index])
    leader = order[0]
    found = []
    for index in order:
        difference = by_half[leader] - by_half[index]
        variance = np.square(difference[:, 0] - difference[:, 1]).mean() / 4
        found.append(
            Standing(
                names[index],
                float(scores[index]),
                float(scores[leader] - scores[index]),
                float(_APART * np.sqrt(variance)),
            )
        )
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
