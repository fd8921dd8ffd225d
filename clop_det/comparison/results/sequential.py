"""Seeds one after the other: a difference whose verdict is settled costs no further seed.

After each seed, from the third on, every open difference is tested. It is settled as "ahead" or "behind" where the p of
its paired t test is below what this look may spend, and as "not shown" where the seeds that are left would hardly
change that. The looks before the last have one level, the last one five times as much; the levels are such that all
looks together call a difference that does not exist in 5 % of a large number of drawn comparisons (a group-sequential
test: Pocock 1977, Lan and DeMets 1983). Within a look the correction for many differences is Holm's, over all that are
not settled as different.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

from clop_det.comparison.names import FIRST_LOOK
from clop_det.comparison.results.statistics import mean_interval, t_test

LEVEL = 0.05
_EARLY = 0.2  # level of a look before the last, as a share of the last one's
_TRIALS = 200_000  # drawn differences of 0 that the levels are taken from
_HOPELESS = 0.2  # probability of a verdict at the last look below which a difference is given up
_DRAWN = 500  # futures of a difference
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Decision:
    """How far one difference is.

    Attributes:
        settled: whether it needs no further seed.
        seeds: how many, in the order of the matrix, its verdict rests on; of an open one: how many it needs next.
        p: below `LEVEL` exactly where it is settled as a difference; NaN where there is no test yet.
    """

    settled: bool
    seeds: int
    p: float = math.nan


def decide(differences: Mapping[K, Mapping[int, float]], seeds: Sequence[int]) -> dict[K, Decision]:
    """Go through the looks as far as there are figures.

    Args:
        differences: of each comparison: seed -> row minus baseline. Seeds beyond a verdict change nothing.
        seeds: all of the matrix, in its order.
    """
    found: dict[K, Decision] = {}
    open_ones, rejected = list(differences), 0
    for look in range(min(FIRST_LOOK, len(seeds)), len(seeds) + 1):
        waiting = [name for name in open_ones if not set(seeds[:look]) <= set(differences[name])]
        if waiting:
            found |= dict.fromkeys(open_ones, Decision(False, look))
            return found
        values = {name: [differences[name][seed] for seed in seeds[:look]] for name in open_ones}
        tests = {name: t_test(own) for name, own in values.items()}
        for name in sorted(open_ones, key=lambda name: math.inf if math.isnan(tests[name]) else tests[name]):
            p = tests[name] * LEVEL / level_of(look, len(seeds), len(differences) - rejected)
            if not p < LEVEL:
                break
            found[name] = Decision(True, look, p)
            rejected += 1
            open_ones.remove(name)
        for name in list(open_ones):
            last = look == len(seeds)
            if last or chance(values[name], len(seeds), len(differences) - rejected) < _HOPELESS:
                p = tests[name] * LEVEL / level_of(look, len(seeds), len(differences) - rejected)
                found[name] = Decision(True, look, p if math.isnan(p) else min(1.0, max(LEVEL, p)))
                open_ones.remove(name)
    return found


@lru_cache(maxsize=1024)
def level_of(look: int, seeds: int, comparisons: int = 1) -> float:
    """The p of one difference below which the look after `look` of `seeds` seeds calls it, among `comparisons`."""
    if seeds <= FIRST_LOOK:
        return LEVEL / comparisons
    return _share(look, seeds) * float(np.quantile(_smallest(seeds), LEVEL / comparisons))


def _share(look: int, seeds: int) -> float:
    return 1.0 if look == seeds else _EARLY


@lru_cache(maxsize=4)
def _smallest(seeds: int) -> NDArray[np.float64]:
    """The smallest p by share of all looks, (trials,), where the true difference is 0."""
    draw = np.random.default_rng(0)
    total, squares, smallest = np.zeros(_TRIALS), np.zeros(_TRIALS), np.full(_TRIALS, np.inf)
    for look in range(1, seeds + 1):
        values = draw.normal(size=_TRIALS)
        total, squares = total + values, squares + values**2
        if look >= FIRST_LOOK:
            t = total / np.sqrt(look * (squares - total**2 / look) / (look - 1))
            smallest = np.minimum(smallest, 2 * special.stdtr(look - 1, -np.abs(t)) / _share(look, seeds))
    return smallest


def chance(values: Sequence[float], seeds: int, comparisons: int) -> float:
    """Probability, as the seeds so far have it, that the last look would call a difference.

    Mean and spread are drawn from what the values leave possible (a flat prior of the mean and of log spread), the
    seeds to come from these.
    """
    n, more = len(values), seeds - len(values)
    now = mean_interval(values)
    if not now.std > 0:
        return 1.0  # equal differences say nothing of the spread
    draw = np.random.default_rng(0)
    sigma = now.std * np.sqrt((n - 1) / draw.chisquare(n - 1, _DRAWN))
    mean = now.mean + draw.normal(size=_DRAWN) * sigma / math.sqrt(n)
    to_come = mean + draw.normal(size=_DRAWN) * sigma / math.sqrt(more)
    squares = (n - 1) * now.std**2 + n * more / seeds * (to_come - now.mean) ** 2
    squares += sigma**2 * (draw.chisquare(more - 1, _DRAWN) if more > 1 else 0.0)
    final = (n * now.mean + more * to_come) / seeds
    t = np.abs(final) / np.sqrt(squares / (seeds - 1) / seeds)
    p = 2 * special.stdtr(seeds - 1, -t)
    return float(np.mean(p < level_of(seeds, seeds, comparisons)))
