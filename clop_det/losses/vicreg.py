"""VICReg: variance, invariance, covariance."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.keys import at_least
from clop_det.losses.base import Loss, check_weight
from clop_det.losses.batch import Batch
from clop_det.losses.registry import register_loss

# Inside the square root of the variance term (Bardes et al. 2022, section 4.1).
VARIANCE_EPSILON = 1e-4


@register_loss(
    "vicreg",
    {
        "INVARIANCE": ("Weight lambda of the mean squared difference of the two views.", at_least(0)),
        "VARIANCE": ("Weight mu of the missing spread per dimension.", at_least(0)),
        "COVARIANCE": ("Weight nu of the squared covariances between dimensions.", at_least(0)),
    },
)
class VICReg(Loss):
    """Agreement of the views, a spread of at least 1 per dimension, no covariance between dimensions.

        lambda * mse(Z, Z') + mu * (v(Z) + v(Z')) / 2 + nu * (c(Z) + c(Z'))
        v(Z) = 1/d sum_j max(0, 1 - sqrt(var(Z_j) + 1e-4)),   c(Z) = 1/d sum_{i != j} cov(Z)_ij^2

    The embeddings are used as they come, not on the unit sphere; labels are not used; at least two images. Variances
    have N - 1 in the denominator, mse is the mean over images and dimensions. Source: Bardes et al. 2022, equations
    1-6, with the factors of the authors' code (halved variance term).

    Args:
        invariance: lambda >= 0.
        variance: mu >= 0.
        covariance: nu >= 0.

    Raises:
        ValueError: a weight below 0.
    """

    min_images = 2

    def __init__(self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        super().__init__()
        self.invariance = check_weight("invariance", invariance)
        self.variance = check_weight("variance", variance)
        self.covariance = check_weight("covariance", covariance)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Three terms: `vicreg_invariance`, `vicreg_variance`, `vicreg_covariance`."""
        first, second = batch.views
        spread = (_missing_spread(first) + _missing_spread(second)) / 2
        return {
            "vicreg_invariance": self.invariance * (first - second).square().mean(),
            "vicreg_variance": self.variance * spread,
            "vicreg_covariance": self.covariance * (_covariance(first) + _covariance(second)),
        }

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"invariance={self.invariance}, variance={self.variance}, covariance={self.covariance}"


def _missing_spread(z: Tensor) -> Tensor:
    return torch.relu(1 - (z.var(dim=0) + VARIANCE_EPSILON).sqrt()).mean()


def _covariance(z: Tensor) -> Tensor:
    centred = z - z.mean(dim=0)
    covariance = centred.t() @ centred / (len(z) - 1)
    off_diagonal = covariance - torch.diag(covariance.diagonal())
    return off_diagonal.square().sum() / z.shape[1]
