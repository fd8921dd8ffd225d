"""A pooled model of rows and seeds, and Dunnett's test of all rows against one baseline.

With few seeds a paired t test estimates its spread from two or three numbers. The additive model `figure = row + seed +
residual` takes one spread from all rows, so it has more degrees of freedom; it assumes that the rows spread alike.
Dunnett (1955) corrects for comparing every row with the same baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from clop_det.comparison.results.statistics import Interval, PairedDifference

_INNER = np.polynomial.hermite_e.hermegauss(80)
_OUTER = 200  # nodes of the spread


@dataclass(frozen=True)
class Pooled:
    """The model of one group of rows.

    Attributes:
        seeds: those that all rows have.
        std: of the residuals, in the figure's unit.
        df: degrees of freedom of `std`.
    """

    seeds: tuple[int, ...]
    std: float
    df: int


def pooled_differences(
    rows: Sequence[Mapping[int, float]], baseline: Mapping[int, float], groups: int = 1
) -> list[PairedDifference | None]:
    """Every row minus the baseline under the pooled model; None for all if no seed is in all of them.

    Args:
        rows: seed -> figure, one mapping a row.
        groups: how many such tables are judged together; p values are multiplied by it (Bonferroni).
    """
    model = fit([*rows, baseline])
    if model is None:
        return [None for _ in rows]
    n = len(model.seeds)
    found: list[PairedDifference | None] = []
    for row in rows:
        mean = math.fsum(row[seed] - baseline[seed] for seed in model.seeds) / n
        if n < 2 or not model.std > 0:
            found.append(PairedDifference(Interval(mean, math.nan, math.nan, math.nan, n), math.nan, math.nan))
            continue
        error = model.std * math.sqrt(2 / n)
        half = float(special.stdtrit(model.df, 0.975)) * error
        t = abs(mean) / error
        interval = Interval(mean, mean - half, mean + half, model.std * math.sqrt(2), n)
        corrected = min(1.0, groups * dunnett_p(t, len(rows), model.df))
        found.append(PairedDifference(interval, float(2 * special.stdtr(model.df, -t)), math.nan, corrected))
    return found


def fit(rows: Sequence[Mapping[int, float]]) -> Pooled | None:
    """The additive model of rows and seeds, by least squares; None without a common seed."""
    seeds = sorted(set.intersection(*(set(row) for row in rows)))
    if not seeds:
        return None
    values = np.array([[row[seed] for seed in seeds] for row in rows])
    rest = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0, keepdims=True) + values.mean()
    df = (len(rows) - 1) * (len(seeds) - 1)
    rounding = 1e-9 * float(np.abs(values).max())
    std = math.sqrt(float((rest**2).sum()) / df) if df else 0.0
    return Pooled(tuple(seeds), std if std > rounding else 0.0, df)


def dunnett_p(t: float, rows: int, df: int) -> float:
    """Two-sided p of the largest of `rows` differences against one baseline: P(max |T| >= t), equal sizes.

    The differences share the baseline, so they are correlated by 1/2: T_i = (Z_i - Z_0) / (sqrt(2) S).
    """
    shares = (np.arange(_OUTER) + 0.5) / _OUTER
    spread = np.sqrt(special.chdtri(df, 1 - shares) / df)[:, None]
    z, weights = _INNER
    reach = math.sqrt(2) * t * spread
    inside = (special.ndtr(z + reach) - special.ndtr(z - reach)) ** rows
    below = (inside * weights).sum(axis=1) / math.sqrt(2 * math.pi)
    return float(min(1.0, max(0.0, 1 - below.mean())))
