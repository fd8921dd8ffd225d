"""Seeds one after the other: a difference whose verdict is settled costs no further seed.

The verdict is meant to be that of the whole matrix: a paired t test over all seeds, Holm's correction over all
differences. After each seed, from the third on, the seeds to come are drawn as those so far have it, and every such
future is judged like the whole matrix. A difference that practically all futures call, one way, is called at once. One
that most futures do not call is given up: "not shown". What is open after the last seed gets the verdict of the whole
matrix. This is stochastic curtailment (Lan, Simon and Halperin 1982) by predictive probabilities (Spiegelhalter,
Freedman and Blackburn 1986).
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
from clop_det.comparison.results.statistics import holm, t_test

LEVEL = 0.05
_SURE = 0.999  # share of the futures that must call a difference one way before it is called
_HOPELESS = 0.4  # share of the futures that call a difference below which it is given up
_COMMON = 1  # degrees of freedom that the spread of a difference takes from that of all open ones
_DRAWN = 2_000  # futures
K = TypeVar("K", bound=Hashable)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decision:
    """How far one difference is.

    Attributes:
        settled: whether it needs no further seed.
        seeds: how many, in the order of the matrix, its verdict rests on; of an open one: how many it needs next.
        p: of those seeds, after Holm's correction; below `LEVEL` exactly where it is settled as a difference; NaN where
            there is no test yet.
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
    for look in range(min(FIRST_LOOK, len(seeds)), len(seeds) + 1):
        names, last = [name for name in differences if name not in found], look == len(seeds)
        if not names:
            break
        if any(not set(seeds[:look]) <= set(differences[name]) for name in names):
            return found | dict.fromkeys(names, Decision(False, look))
        values = [[differences[name][seed] for seed in seeds[:look]] for name in names]
        # In the correction, a difference that has been called counts as called, one that was given up as one more.
        called = [decision.p < LEVEL for decision in found.values()]
        corrected = holm([*map(t_test, values), *(float(not one) for one in called)])
        chances = [(1.0, 1.0)] * len(names) if last else chances_of(values, called, len(seeds))
        for name, p, (one_way, any_way) in zip(names, corrected, chances, strict=False):
            if p < LEVEL and one_way >= _SURE:
                found[name] = Decision(True, look, p)
            elif last or any_way < _HOPELESS:
                found[name] = Decision(True, look, p if math.isnan(p) else max(LEVEL, p))
    return found


def chances_of(values: Sequence[Sequence[float]], settled: Sequence[bool], seeds: int) -> list[tuple[float, float]]:
    """How probably the whole matrix calls each difference, as the seeds so far have it.

    Mean and spread are drawn from what the values leave possible (flat priors of the mean and of the logarithm of the
    spread, and the spread that the differences have in common), the seeds to come from these.

    Args:
        values: the same seeds of each open difference, at least two and less than `seeds`.
        settled: of each settled difference, whether it has been called.
        seeds: of the whole matrix.

    Returns:
        (chance that it is called in the likelier direction, that it is called at all); (1, 1) for a difference that is
        equal in all seeds, which says nothing of its spread.
    """
    given = np.array(values)
    n, more = given.shape[1], seeds - given.shape[1]
    mean, variance = given.mean(axis=1, keepdims=True), given.var(axis=1, ddof=1, keepdims=True)
    spread = variance > 1e-18 * np.square(given).max(axis=1, keepdims=True)
    common = np.exp(np.log(variance[spread]).mean()) if spread.any() else 0.0
    chi, of_mean, of_sum, rest = _draws(len(given), n, seeds)
    sigma = np.sqrt(((n - 1) * variance + _COMMON * common) / chi)
    to_come = mean + sigma * (of_mean / math.sqrt(n) + of_sum / math.sqrt(more))  # mean of the seeds to come
    squares = (n - 1) * variance + n * more / seeds * (to_come - mean) ** 2 + sigma**2 * rest
    total = n * mean + more * to_come
    t = total / np.sqrt(seeds * np.where(spread, squares, math.inf) / (seeds - 1))
    others = [np.full((1, _DRAWN), math.inf if called else 0.0) for called in settled]
    called = _called(np.abs(np.vstack([t, *others])), seeds)[: len(given)]
    up, down = (called & (t > 0)).mean(axis=1), (called & (t < 0)).mean(axis=1)
    return [
        (max(above, below), above + below) if has else (1.0, 1.0)
        for has, above, below in zip(spread[:, 0], up.tolist(), down.tolist(), strict=True)
    ]


@lru_cache(maxsize=64)
def _draws(count: int, n: int, seeds: int) -> tuple[Floats, ...]:
    """For `count` differences: chi square of the spread; standard normals; chi square within the seeds to come."""
    draw, size, more = np.random.default_rng(0), (count, _DRAWN), seeds - n
    normals = draw.normal(size=(2, *size))
    return (
        draw.chisquare(n - 1 + _COMMON, size),
        *normals,
        draw.chisquare(more - 1, size) if more > 1 else np.zeros(size),
    )


def _called(t: Floats, seeds: int) -> NDArray[np.bool_]:
    """Which of the |t| (differences, futures) of t tests over `seeds` seeds each future calls, by Holm's rule."""
    order, left = np.argsort(-t, axis=0), np.arange(len(t), 0, -1)
    enough = -special.stdtrit(seeds - 1, LEVEL / left / 2)
    passed = np.logical_and.accumulate(np.take_along_axis(t, order, axis=0) > enough[:, None], axis=0)
    called = np.empty_like(passed)
    np.put_along_axis(called, order, passed, axis=0)
    return called
