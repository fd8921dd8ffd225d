"""Learning rates at which free embeddings collapse, derived from the linearised update; see docs/collapse.md.

All are for the rule "ambient" of `clop_det.collapse.dynamics` and act on the embeddings themselves: between them and a
learning rate of weights stands the encoder.
"""

from __future__ import annotations

import math

import torch

from clop_det.collapse.dynamics import REDUCTIONS


def critical_learning_rate(temperature: float, reduction: str = "sum", batch: int | None = None) -> float:
    """Learning rate past which repulsion alone makes the mean embedding grow: T for a sum, n T for a mean.

    With near-uniform attention each point moves by -(2 eta / T) mu, so mu <- (1 - 2 eta / T) mu, which contracts for
    0 < eta < T and fastest at T / 2 (our reconstruction of Li, Nguyen, Pimentel-Alarcon 2025).

    Args:
        temperature: T > 0.
        reduction: of the loss over the n embeddings, "sum" or "mean".
        batch: n, the number of embeddings (two per image); needed for "mean".

    Raises:
        ValueError: a number out of range, an unknown reduction, or "mean" without `batch`.
    """
    return _check_temperature(temperature) * _reduction_factor(reduction, batch)


def collapse_learning_rate(temperature: float, batch: int, reduction: str = "sum") -> float:
    """Learning rate past which the all-equal state attracts: T (n - 1) / (n - 2); times n for a mean. Exact.

    Near that state a step multiplies deviations by (1 + c / (n - 1)) / |1 - c|, c = 2 eta / T, in any dimension.

    Args:
        temperature: T > 0.
        batch: n > 2 embeddings.
        reduction: "sum" or "mean".

    Raises:
        ValueError: a number out of range, or an unknown reduction.
    """
    if batch <= 2:
        raise ValueError(f"batch={batch}: two points or fewer never attract each other; must be above 2")
    return _check_temperature(temperature) * (batch - 1) / (batch - 2) * _reduction_factor(reduction, batch)


def simplex_learning_rate(temperature: float, batch: int, dim: int, reduction: str = "sum") -> float:
    """Learning rate past which the regular simplex, where repulsion comes to rest for n <= d + 1, is unstable. Exact.

    The lowest over the three kinds of perturbation that are not rotations: of the mean out of the simplex's span (only
    for d >= n), of the mean within it, and of the shape.

    Args:
        temperature: T > 0.
        batch: n >= 4 embeddings.
        dim: d >= n - 1.
        reduction: "sum" or "mean".

    Raises:
        ValueError: a number out of range, or an unknown reduction.
    """
    n, t = batch, _check_temperature(temperature)
    if not 4 <= n <= dim + 1:
        raise ValueError(f"batch={batch}, dim={dim}: must satisfy 4 <= batch <= dim + 1")
    in_span = 1 - 1 / (n - 1) ** 2 - 2 / (n - 1) + n**3 / (2 * t * (n - 1) ** 4)
    shape = 2 * n / (t * (n - 1) ** 2) - 2 / (n - 1)
    limits = [t / mode for mode in (in_span, shape) if mode > 0]
    if dim >= n:
        limits.append(collapse_learning_rate(t, n))
    return min(limits, default=math.inf) * _reduction_factor(reduction, batch)


def uniform_learning_rate(temperature: float, dim: int) -> float:
    """Learning rate past which the uniform distribution on the sphere, the limit n >> d, is unstable (sum-reduced).

    For perturbations of the mean; tends to T as T d grows.

    Args:
        temperature: T > 0.
        dim: d >= 2.

    Raises:
        ValueError: a number out of range.
    """
    t = _check_temperature(temperature)
    if dim < 2:
        raise ValueError(f"dim={dim}: must be at least 2")
    # Attention of a point z falls on a with density ~ exp(z.a / T); s = z.a = cos(angle), whose law is one-dimensional.
    angle = (torch.arange(20_000, dtype=torch.float64) + 0.5) * (math.pi / 20_000)
    s = angle.cos()
    density = ((s - 1) / t + (dim - 2) * angle.sin().log()).softmax(dim=0)
    mean, square = float(density @ s), float(density @ s.square())
    across = (1 - square) / (dim - 1)
    across_weighted = float(density @ ((1 - s) * (1 - s.square()))) / (dim - 1)
    return t / (1 - across + (2 * across_weighted - (1 - square) * across) / (2 * t) + mean)


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


def _reduction_factor(reduction: str, batch: int | None) -> int:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction={reduction!r}: must be one of {', '.join(REDUCTIONS)}")
    if reduction == "sum":
        return 1
    if batch is None or batch < 2:
        raise ValueError(f"batch={batch}: reduction 'mean' needs the number of embeddings, at least 2")
    return batch
