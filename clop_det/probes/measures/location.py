"""The localisation probe: how well a linear map of frozen features finds where and how large a box is."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.probes.measures.checks import check_features

_PENALTIES = 41  # from 1e-8 to 1e2 of the largest energy


def location_r2(bank: Tensor, bank_targets: Tensor, queries: Tensor, query_targets: Tensor) -> float:
    """Share of the queries' variance that a ridge regression on the bank explains, mean over the targets.

    1: all of it; 0: no better than the bank's mean; it may be below 0. The penalty is the one with the least squared
    leave-one-out error on the bank, which has a closed form, so nothing is drawn.

    Args:
        bank: features (N, D), N >= 3.
        bank_targets: (N, T), e.g. centre and logarithm of the size of a box within its window.
        queries: features (M, D).
        query_targets: (M, T); a target that does not vary is left out.

    Raises:
        ValueError: no finite matrices of these shapes, or no target varies.
    """
    x, y = check_features("bank", bank, min_rows=3).double(), check_features("bank_targets", bank_targets).double()
    asked, truth = check_features("queries", queries).double(), check_features("query_targets", query_targets).double()
    if len(x) != len(y) or len(asked) != len(truth) or x.shape[1] != asked.shape[1] or y.shape[1] != truth.shape[1]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (x, y, asked, truth))
        raise ValueError(f"bank, bank_targets, queries and query_targets do not fit together: {shapes}")
    varies = (truth - truth.mean(0)).square().sum(0) > 0
    if not bool(varies.any()):
        raise ValueError("query_targets must vary, but each column holds one value")
    predicted = _ridge(x, y, asked)
    left = (truth - predicted).square().sum(0)[varies]
    total = (truth - y.mean(0)).square().sum(0)[varies]
    return float((1 - left / total).mean())


def _ridge(x: Tensor, y: Tensor, asked: Tensor) -> Tensor:
    """Predictions (M, T) of the regression with the penalty of least leave-one-out error."""
    mean, centre = x.mean(0), y.mean(0)
    u, s, vt = torch.linalg.svd(x - mean, full_matrices=False)
    inside, outside = u.T @ (y - centre), y - centre - u @ (u.T @ (y - centre))
    best, chosen = float("inf"), torch.zeros_like(s)
    for penalty in torch.logspace(2, -8, _PENALTIES, dtype=torch.float64, device=x.device) * s[0].square():
        if not penalty > 0:
            break
        shrink = s.square() / (s.square() + penalty)
        leverage = u.square() @ shrink + 1 / len(x)
        residual = outside + u @ ((1 - shrink)[:, None] * inside)
        error = float((residual / (1 - leverage).clamp(min=1e-12)[:, None]).square().sum())
        if error < best:
            best, chosen = error, s / (s.square() + penalty)
    predicted: Tensor = centre + (asked - mean) @ (vt.T @ (chosen[:, None] * inside))
    return predicted
