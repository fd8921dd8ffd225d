"""Points on the unit sphere to start from, batched over seeds, and what is measured on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def random_points(
    count: int, dim: int, seeds: Sequence[int], pairs: bool = False, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Independent points, uniform on the sphere, one set for each seed.

    Args:
        count: n >= 2 points a set.
        dim: d >= 1.
        seeds: one for each set; a set depends on its own seed alone.
        pairs: make point i + n/2 equal to point i, as the two views of an image that are already merged; n even.
        dtype: of the result; the draw itself is in float64.

    Returns:
        (len(seeds), n, d) unit rows.

    Raises:
        ValueError: a number out of range, no seed, or an odd n with `pairs`.
    """
    if count < 2 or dim < 1 or not seeds:
        raise ValueError(f"count={count}, dim={dim}, seeds={tuple(seeds)}: need count >= 2, dim >= 1, one seed or more")
    if pairs and count % 2:
        raise ValueError(f"count={count}: must be even for pairs")
    drawn = count // 2 if pairs else count
    sets = [
        torch.randn(drawn, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds
    ]
    points = F.normalize(torch.stack(sets), dim=2)
    return (points.repeat(1, 2, 1) if pairs else points).to(dtype)


def effective_ranks(points: Tensor) -> Tensor:
    """Effective rank (Roy and Vetterli 2007) of each set of points (..., n, d), uncentred: exp of the entropy of p.

    p are the singular values scaled to sum 1. Result (...) float64.
    """
    values = torch.linalg.svdvals(points.double())
    p = values / values.sum(dim=-1, keepdim=True)
    ranks: Tensor = torch.special.entr(p).sum(dim=-1).exp()
    return ranks


def mean_norms(points: Tensor) -> Tensor:
    """Length of the mean point of each set (..., n, d): 0 when spread evenly, 1 when all are one point; (...)."""
    lengths: Tensor = torch.linalg.vector_norm(points.double().mean(dim=-2), dim=-1)
    return lengths


def mean_cosines(points: Tensor) -> Tensor:
    """Mean cosine over the pairs of different points of each set of unit rows (..., n, d); (...)."""
    n = points.shape[-2]
    total = points.double().sum(dim=-2).square().sum(dim=-1)
    return (total - n) / (n * (n - 1))
