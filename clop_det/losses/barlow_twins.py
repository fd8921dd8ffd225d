"""Barlow Twins: the cross-correlation of the two views is the identity."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.keys import at_least
from clop_det.losses.base import Loss, check_weight
from clop_det.losses.batch import Batch
from clop_det.losses.registry import register_loss

# Added to the variance of a dimension before the root, as in the batch normalisation of the authors' code.
VARIANCE_EPSILON = 1e-5


@register_loss(
    "barlow_twins",
    {"REDUNDANCY": ("Weight lambda of the correlations between different dimensions.", at_least(0))},
)
class BarlowTwins(Loss):
    """Every dimension agrees with itself across the views and with no other dimension.

        sum_j (1 - C_jj)^2 + lambda * sum_{i != j} C_ij^2,    C = standardised(Z)^T standardised(Z') / N

    Each dimension is standardised over the global batch (biased variance). The embeddings are used as they come, not on
    the unit sphere; labels are not used; at least two images. Source: Zbontar et al. 2021, equations 1-2.

    Args:
        redundancy: lambda >= 0.

    Raises:
        ValueError: a weight below 0.
    """

    min_images = 2

    def __init__(self, redundancy: float = 0.005) -> None:
        super().__init__()
        self.redundancy = check_weight("redundancy", redundancy)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Two terms: `barlow_twins_invariance`, `barlow_twins_redundancy`."""
        first, second = (_standardised(view) for view in batch.views)
        correlation = first.t() @ second / batch.num_images
        own = correlation.diagonal()
        others = correlation - torch.diag(own)
        return {
            "barlow_twins_invariance": (1 - own).square().sum(),
            "barlow_twins_redundancy": self.redundancy * others.square().sum(),
        }

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"redundancy={self.redundancy}"


def _standardised(z: Tensor) -> Tensor:
    variance, mean = torch.var_mean(z, dim=0, correction=0)
    return (z - mean) / (variance + VARIANCE_EPSILON).sqrt()
