"""Learning rates at which free embeddings collapse, derived from the linearised update; see docs/collapse.md.

All are for the rule "ambient" of `clop_det.collapse.dynamics` and act on the embeddings themselves: between them and a
learning rate of weights stands the encoder. The loss is a sum over the n embeddings; for a mean over them, multiply a
learning rate by n.
"""

from __future__ import annotations

import math


def collapse_learning_rate(temperature: float, batch: int) -> float:
    """Learning rate past which the all-equal state attracts: T (n - 1) / (n - 2). Exact.

    Near that state a step multiplies deviations by (1 + c / (n - 1)) / |1 - c|, c = 2 eta / T, in any dimension.

    Args:
        temperature: T > 0.
        batch: n > 2 embeddings.

    Raises:
        ValueError: a number out of range.
    """
    if batch <= 2:
        raise ValueError(f"batch={batch}: two points or fewer never attract each other; must be above 2")
    return _check_temperature(temperature) * (batch - 1) / (batch - 2)


def simplex_learning_rate(temperature: float, batch: int, dim: int) -> float:
    """Learning rate past which the regular simplex, where repulsion comes to rest for n <= d + 1, is unstable. Exact.

    The lowest over the three kinds of perturbation that are not rotations: of the mean out of the simplex's span (only
    for d >= n), of the mean within it, and of the shape.

    Args:
        temperature: T > 0.
        batch: n >= 4 embeddings.
        dim: d >= n - 1.

    Raises:
        ValueError: a number out of range.
    """
    n, t = batch, _check_temperature(temperature)
    if not 4 <= n <= dim + 1:
        raise ValueError(f"batch={batch}, dim={dim}: must satisfy 4 <= batch <= dim + 1")
    in_span = 1 - 1 / (n - 1) ** 2 - 2 / (n - 1) + n**3 / (2 * t * (n - 1) ** 4)
    shape = 2 * n / (t * (n - 1) ** 2) - 2 / (n - 1)
    limits = [t / mode for mode in (in_span, shape) if mode > 0]
    if dim >= n:
        limits.append(collapse_learning_rate(t, n))
    return min(limits, default=math.inf)


def pinned_learning_rate(temperature: float, labelled_fraction: float) -> float:
    """Learning rate past which CLOP cannot help even with an infinite weight: T / (1 - f) (sum-reduced, n >> 1).

    The labelled points are then fixed at their prototypes, and only the fraction 1 - f answers to the mean.

    Args:
        temperature: T > 0.
        labelled_fraction: f in 0..1; infinite for 1.

    Raises:
        ValueError: a number out of range.
    """
    t, f = _check_temperature(temperature), _check_fraction(labelled_fraction)
    return t / (1 - f) if f < 1 else math.inf


def smallest_weight(learning_rate: float, temperature: float, labelled_fraction: float) -> float:
    """Smallest CLOP weight lambda that keeps the mean from growing past the threshold (sum-reduced, n >> 1, d >> 1).

    With r = eta / T:  lambda = 2 f (r - 1) / (r T (1 - r (1 - f))), 0 for r <= 1, infinite for f <= 1 - 1/r.

    Args:
        learning_rate: eta > 0.
        temperature: T > 0.
        labelled_fraction: f in 0..1.

    Raises:
        ValueError: a number out of range.
    """
    t, f = _check_temperature(temperature), _check_fraction(labelled_fraction)
    if not learning_rate > 0:
        raise ValueError(f"learning_rate={learning_rate}: must be above 0")
    r = learning_rate / t
    if r <= 1:
        return 0.0
    room = 1 - r * (1 - f)
    return 2 * f * (r - 1) / (r * t * room) if room > 0 else math.inf


def _check_temperature(temperature: float) -> float:
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature={temperature}: must be a finite number above 0")
    return float(temperature)


def _check_fraction(fraction: float) -> float:
    if not 0 <= fraction <= 1:
        raise ValueError(f"labelled_fraction={fraction}: must lie in 0..1")
    return float(fraction)
