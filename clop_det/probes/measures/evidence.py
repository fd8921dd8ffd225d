"""LogME: how well a linear model explains targets by frozen features, as the evidence that no held-out data need."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.probes.measures.checks import check_features, check_labels

# The evidence is searched for its maximum over the logarithm of the penalty: a grid, then golden section.
_GRID, _SPAN, _SECTIONS = 161, 28.0, 48
_GOLDEN = (math.sqrt(5) - 1) / 2


def logme(features: Tensor, labels: Tensor) -> float:
    """LogME of class labels: the mean over classes of the evidence of "is of this class" (1 or 0), per row.

    You et al. 2021 (arXiv 2102.11005), algorithm 1. The larger, the better a linear model explains the labels. Only
    scores on the same rows and labels can be compared.

    Args:
        features: (N, D), N >= 2.
        labels: (N,) integers >= 0; classes without a row are left out.

    Raises:
        ValueError: shapes, dtypes or values break the rules above, or a feature is not finite.
    """
    labels = check_labels("labels", labels, len(features))
    present = torch.unique(labels, return_inverse=True)[1]
    return _mean_evidence(features, F.one_hot(present).double())


def logme_regression(features: Tensor, targets: Tensor) -> float:
    """LogME of real targets (N, T): the mean of the evidence over their columns, per row; see `logme`.

    Raises:
        ValueError: features or targets are no finite matrices of as many rows.
    """
    targets = check_features("targets", targets, min_rows=2).double()
    if len(targets) != len(features):
        raise ValueError(f"targets must have {len(features)} rows, one a feature, but have {len(targets)}")
    return _mean_evidence(features, targets)


def tlogme(features: Tensor, labels: Tensor, boxes: Tensor) -> float:
    """TLogME of objects: the mean of LogME of their classes and of LogME of the four coordinates of their boxes.

    Fouquet et al. 2023 ("Transferability Metrics for Object Detection", arXiv 2306.15306), section 3.

    Args:
        features: (N, D), one row an object.
        labels: (N,) integers >= 0.
        boxes: (N, 4), on one scale.

    Raises:
        ValueError: see `logme` and `logme_regression`.
    """
    return (logme(features, labels) + logme_regression(features, boxes)) / 2


def _mean_evidence(features: Tensor, targets: Tensor) -> float:
    features = check_features("features", features, min_rows=2).double()
    left, values, _ = torch.linalg.svd(features, full_matrices=False)
    energies = values.square()
    inside = (left.T @ targets.to(features)).square()  # (R, T) energy of each target along each direction
    outside = (targets.to(features).square().sum(0) - inside.sum(0)).clamp(min=0)
    if len(features) <= features.shape[1] and energies[-1] > 0:
        outside = torch.zeros_like(outside)  # the rows span everything; what is left is rounding
    centre = energies.max().clamp(min=torch.finfo(torch.float64).tiny).log()
    return float(_largest_evidence(energies, inside, outside, float(centre), len(features)).mean() / len(features))


def _largest_evidence(energies: Tensor, inside: Tensor, outside: Tensor, centre: float, rows: int) -> Tensor:
    """Largest log evidence (T,) of y ~ N(0, (1 + F F' / t) / b) over b > 0 and t > 0.

    For each t the best b is rows / q(t) with q the quadratic form of y, which leaves a search over ln t.
    """

    def evidence(log_t: Tensor) -> Tensor:  # (..., T) -> (..., T)
        ratio = 1 + energies[:, None] / log_t.exp()[..., None, :]
        q = (inside / ratio).sum(-2) + outside
        tiny = torch.finfo(q.dtype).tiny
        fit: Tensor = rows / 2 * (rows / q.clamp(min=tiny) / (2 * math.pi)).log() - ratio.log().sum(-2) / 2 - rows / 2
        return fit

    grid = torch.linspace(centre - _SPAN, centre + _SPAN, _GRID, dtype=torch.float64, device=energies.device)
    best = torch.stack([evidence(point.expand(len(outside))) for point in grid]).argmax(0)
    low, high = grid[(best - 1).clamp(min=0)], grid[(best + 1).clamp(max=_GRID - 1)]
    for _ in range(_SECTIONS):
        first, second = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        left_is_better = evidence(first) > evidence(second)
        low, high = torch.where(left_is_better, low, first), torch.where(left_is_better, second, high)
    return evidence((low + high) / 2)
