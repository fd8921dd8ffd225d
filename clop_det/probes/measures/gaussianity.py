"""How far frozen features are from a Gaussian cloud: the value of SIGReg."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.losses.lejepa import sigreg
from clop_det.probes.measures.checks import check_features


def sigreg_value(features: Tensor, directions: int = 1024, seed: int = 0) -> float:
    """SIGReg (LeJEPA, arXiv 2511.08544, section 4) of standardised features: 0 for a standard Gaussian, of many rows.

    Each column is centred and divided by its deviation first, since the scale of frozen features means nothing; a
    column that does not vary is left out. The statistic of N Gaussian rows does not depend on N in the mean.

    Args:
        features: (N, D), N >= 2.
        directions: random unit directions to look along.
        seed: of the directions.

    Raises:
        ValueError: not a finite floating-point matrix of two rows or more, or no column varies.
    """
    matrix = check_features("features", features, min_rows=2).double()
    spread = matrix.std(0)
    varies = spread > 10 * torch.finfo(torch.float32).eps * matrix.abs().amax(0)
    if not bool(varies.any()):
        raise ValueError("features must vary, but all rows are equal")
    rows = ((matrix - matrix.mean(0)) / spread)[:, varies]
    drawn = torch.randn(rows.shape[1], directions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return float(sigreg(rows, F.normalize(drawn, dim=0).to(rows)))
