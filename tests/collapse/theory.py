"""Two resting states of repulsion, and where they turn unstable, to test the thresholds against."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def simplex_points(count: int, dim: int) -> Tensor:
    """Regular simplex of n points about the origin, (n, d) float64: the resting state if n <= d + 1."""
    # Rows of the identity less their mean span n - 1 dimensions; their SVD gives coordinates in exactly those.
    centred = torch.eye(count, dtype=torch.float64) - 1 / count
    basis = torch.linalg.svd(centred)[2][: count - 1]
    points = F.normalize(centred @ basis.T, dim=1)
    return F.pad(points, (0, dim - count + 1))


def uniform_learning_rate(temperature: float, dim: int) -> float:
    """Learning rate past which the uniform distribution on the sphere, the limit n >> d, is unstable (sum-reduced).

    For perturbations of the mean; tends to T as T d grows.

    Args:
        temperature: T > 0.
        dim: d >= 2.
    """
    t = temperature
    # Attention of a point z falls on a with density ~ exp(z.a / T); s = z.a = cos(angle), whose law is one-dimensional.
    angle = (torch.arange(20_000, dtype=torch.float64) + 0.5) * (math.pi / 20_000)
    s = angle.cos()
    density = ((s - 1) / t + (dim - 2) * angle.sin().log()).softmax(dim=0)
    mean, square = float(density @ s), float(density @ s.square())
    across = (1 - square) / (dim - 1)
    across_weighted = float(density @ ((1 - s) * (1 - s.square()))) / (dim - 1)
    return t / (1 - across + (2 * across_weighted - (1 - square) * across) / (2 * t) + mean)
