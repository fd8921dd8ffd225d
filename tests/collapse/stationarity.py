"""Collapsed embeddings are stationary points of InfoNCE and SupCon, and are not of CLOP (Lemma 1 of the paper)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def equal_embeddings(num_images: int, dim: int, seed: int = 0) -> Tensor:
    """Both views of all N images at one random point of the sphere, (2N, d) float64."""
    return _direction(dim, seed).expand(2 * num_images, dim).clone()


def rank_one_embeddings(num_images: int, dim: int, seed: int = 0) -> Tensor:
    """2N embeddings on one line through the origin, each at u or -u by a coin toss of its own, (2N, d) float64."""
    signs = torch.randint(0, 2, (2 * num_images, 1), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return signs * _direction(dim, seed)


def sphere_gradient(loss: nn.Module, embeddings: Tensor, labels: Tensor) -> Tensor:
    """Gradient of `loss(embeddings, labels)` along the sphere at each embedding: (2N, d), orthogonal to its row.

    Args:
        loss: any loss of `clop_det.losses`.
        embeddings: (2N, d) of any non-zero lengths; taken at their directions.
        labels: (N,) int64, -1 = unlabelled.
    """
    points = F.normalize(embeddings.detach(), dim=1).requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(points, labels), points)
    points = points.detach()
    return gradient - (gradient * points).sum(dim=1, keepdim=True) * points


def pull_at_collapse(prototypes: Tensor, direction: Tensor) -> Tensor:
    """Length of the pull on a labelled point of each class when all points are at `direction`, in units of lambda/|S|.

    sqrt(1 - (u . c_k)^2), (K,). For orthonormal prototypes the squares sum to at least K - 1 (Bessel), so at most one
    of them can vanish: with two or more labelled classes no collapsed state is stationary.

    Args:
        prototypes: (K, d) unit rows.
        direction: (d,) unit vector u.
    """
    return (1 - (prototypes @ direction).square()).clamp(min=0).sqrt()


def _direction(dim: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(1, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)
