"""How many seeds it takes to tell a difference, forecast from the seeds that there are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special
from tabulate import tabulate

from clop_det.comparison.results.summary import Comparison
from clop_det.errors import UserError

POWER = 0.8
_NODES, _NEW = 400, 60  # values that stand for the spreads that are possible, and for the seeds to come
_MOST = 1000  # seeds


@dataclass(frozen=True)
class Forecast:
    """What a pilot says of one difference.

    Attributes:
        seeds: of the pilot.
        std: standard deviation of its paired differences.
        needed: seeds, those of the pilot included, from which the power is reached; None: more than 1000.
        now: power with the pilot's seeds.
    """

    seeds: int
    std: float
    needed: int | None
    now: float


def forecast(std: float, seeds: int, difference: float, comparisons: int = 1, power: float = POWER) -> Forecast:
    """How many seeds tell a true difference of `difference` with probability `power`.

    Args:
        std, seeds: standard deviation of the paired differences, and how many seeds it comes from (at least 2).
        comparisons: differences in the table; the smallest p value must fall below .05 divided by this (Holm).

    Raises:
        ValueError: fewer than two seeds, or numbers that are not positive.
    """
    if seeds < 2 or not std > 0 or not difference > 0 or comparisons < 1 or not 0 < power < 1:
        raise ValueError("seeds must be at least 2, std and difference positive, comparisons at least 1")
    level = 0.05 / comparisons

    def reached(n: int) -> bool:
        return expected_power(std, seeds, difference, n, level) >= power

    low, high = seeds - 1, seeds
    while high <= _MOST and not reached(high):
        low, high = high, 2 * high
    while high - low > 1:  # more seeds, more power
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    now = expected_power(std, seeds, difference, seeds, level)
    return Forecast(seeds, std, high if high <= _MOST else None, now)


def expected_power(std: float, pilot: int, difference: float, seeds: int, level: float = 0.05) -> float:
    """Probability that the two-sided paired t test at `level` calls a true difference, right way round, with `seeds`.

    The true spread is known from `pilot` seeds alone, so the power is averaged over the spreads that these leave
    possible (scaled inverse chi, pilot - 1 degrees of freedom); taking `std` for the truth would promise more than is
    kept (Julious and Owen 2006). The final test uses the pilot's seeds, too: their squares count as they are.
    """
    if seeds < 2:
        return 0.0
    pilot = min(pilot, seeds)
    sigma = std * np.sqrt((pilot - 1) / _evenly(pilot - 1, _NODES))[:, None]
    new = _evenly(seeds - pilot, _NEW) if seeds > pilot else np.zeros(1)
    spread = np.sqrt(((pilot - 1) * std**2 + sigma**2 * new) / (seeds - 1))
    critical = float(special.stdtrit(seeds - 1, 1 - level / 2))
    return float(np.mean(special.ndtr((math.sqrt(seeds) * difference - critical * spread) / sigma)))


def _evenly(df: int, count: int) -> NDArray[np.float64]:
    """`count` values that are evenly probable under the chi-square distribution."""
    return np.asarray(special.chdtri(df, (np.arange(count) + 0.5) / count))


def power_table(comparison: Comparison, difference: float) -> str:
    """How many seeds each row of a comparison needs to tell `difference` from the baseline, as text.

    Args:
        difference: in the unit of the comparison's metric as results.csv has it.

    Raises:
        UserError: the difference is not positive, or no row has two seeds in common with the baseline.
    """
    if not difference > 0:
        raise UserError(f"--power is {difference:g}; it must be a difference above 0 in {comparison.metric}.")
    judged = [(s, s.difference) for s in comparison.summaries if s.difference is not None]
    judged = [(summary, found) for summary, found in judged if not math.isnan(found.p_t) and found.interval.std > 0]
    if not judged:
        raise UserError(
            "no row has two seeds in common with the baseline and a spread, so nothing can be forecast. Run a pilot"
            " with COMPARE.SEEDS [0, 1, 2] first."
        )
    lines = []
    for summary, found in judged:
        said = forecast(found.interval.std, found.interval.n, difference, len(judged))
        needed = str(said.needed) if said.needed else f"more than {_MOST}"
        where = " ".join(filter(None, [summary.setting.label, summary.setting.detection]))
        lines.append([where, said.seeds, f"{said.std:.3g}", f"{said.now:.2f}", needed])
    head = f"Seeds that tell a true difference of {difference:g} {comparison.metric} from {comparison.baseline} with"
    head += f" probability {POWER:g} (paired t test, {len(judged)} comparisons):"
    names = ["row", "seeds so far", "spread of differences", "power so far", "seeds needed"]
    return f"{head}\n\n{tabulate(lines, names, disable_numparse=True)}"
