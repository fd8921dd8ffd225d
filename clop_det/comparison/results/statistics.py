"""How sure a difference is: means and intervals over seeds, paired differences, correction for many comparisons."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import special

EXACT_PERMUTATIONS = 14  # up to 2^14 sign patterns are enumerated
_DRAWN = 20_000
_ROUNDING = 1e-9  # relative; differences closer than this are equal


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % t interval; with one value there is none (NaN)."""

    mean: float
    low: float
    high: float
    std: float
    n: int

    @property
    def half(self) -> float:
        """Half the width of the interval."""
        return self.high - self.mean


@dataclass(frozen=True)
class PairedDifference:
    """Mean of the differences over the seeds that both sides have, and how surprising it is if there is none.

    `p_t`: two-sided paired t test; `p_permutation`: two-sided sign-flip test; `p_corrected`: the t test after Holm's
    correction over all differences of the table. All NaN with fewer than two seeds, and the t test's also where the
    differences are equal in every seed: coarse figures (an accuracy over 300 images) often agree by chance, and what
    has no spread has no standard error.
    """

    interval: Interval
    p_t: float
    p_permutation: float
    p_corrected: float = math.nan

    @property
    def verdict(self) -> str:
        """ "ahead" (higher), "behind" (lower), "not shown" (no difference shown), "one seed" or "no spread"."""
        if self.interval.n < 2:
            return "one seed"
        if math.isnan(self.p_t):
            return "no spread"
        if not self.p_corrected < 0.05:
            return "not shown"
        return "ahead" if self.interval.mean > 0 else "behind"


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean and two-sided Student t interval of independent values.

    Raises:
        ValueError: no value, or `level` outside (0, 1).
    """
    if not values:
        raise ValueError("values must hold at least one number")
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1), but is {level}")
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, math.nan, math.nan, math.nan, 1)
    std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(special.stdtrit(n - 1, 0.5 + level / 2)) * std / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, std, n)


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> PairedDifference | None:
    """`values` minus `baseline`, seed by seed; None if they have no seed in common."""
    seeds = sorted(set(values) & set(baseline))
    if not seeds:
        return None
    differences = [values[seed] - baseline[seed] for seed in seeds]
    interval, p_t = mean_interval(differences), t_test(differences)
    if math.isnan(p_t):
        interval = dataclasses.replace(interval, low=math.nan, high=math.nan)
    return PairedDifference(interval, p_t, permutation_test(differences))


def t_test(differences: Sequence[float]) -> float:
    """Two-sided p of the one-sample t test against 0; NaN with fewer than two values, or equal ones (to rounding).

    Differences that are all 0 give 1.
    """
    if len(differences) < 2:
        return math.nan
    if not any(differences):
        return 1.0
    interval = mean_interval(differences)
    if interval.std <= _ROUNDING * max(map(abs, differences)):
        return math.nan
    t = interval.mean / (interval.std / math.sqrt(interval.n))
    return float(2 * special.stdtr(interval.n - 1, -abs(t)))


def permutation_test(differences: Sequence[float], seed: int = 0) -> float:
    """Two-sided p of the sign-flip test of the mean: exact up to 14 values, else from 20,000 drawn patterns.

    With n values the smallest possible p is 2^(1-n): three seeds can never get below 0.25.
    """
    n = len(differences)
    if n < 2:
        return math.nan
    observed = abs(math.fsum(differences))
    threshold = observed - 1e-12 * max(1.0, observed)
    if n <= EXACT_PERMUTATIONS:
        patterns = itertools.product((1, -1), repeat=n)
        hits = sum(abs(math.fsum(s * d for s, d in zip(p, differences, strict=True))) >= threshold for p in patterns)
        return float(hits / 2**n)
    draw = random.Random(seed)
    hits = sum(abs(math.fsum(draw.choice((1, -1)) * d for d in differences)) >= threshold for _ in range(_DRAWN))
    return (hits + 1) / (_DRAWN + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979); NaN stays NaN and does not count as a comparison."""
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    corrected = [math.nan] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Pearson's r; NaN with fewer than three pairs or no spread.

    Raises:
        ValueError: different lengths.
    """
    if len(x) != len(y):
        raise ValueError(f"x and y must have the same length, but have {len(x)} and {len(y)}")
    if len(x) < 3:
        return math.nan
    mean_x, mean_y = math.fsum(x) / len(x), math.fsum(y) / len(y)
    cov = math.fsum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    spread = math.sqrt(math.fsum((a - mean_x) ** 2 for a in x) * math.fsum((b - mean_y) ** 2 for b in y))
    return float(cov / spread) if spread > 0 else math.nan


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, ties sharing their mean rank: Pearson's r of ranks is Spearman's rho."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    result = [0.0] * len(values)
    start = 0
    for end in range(1, len(order) + 1):
        if end == len(order) or values[order[end]] != values[order[start]]:
            for index in order[start:end]:
                result[index] = (start + 1 + end) / 2
            start = end
    return result
