"""Argument checks shared by the measures; every error names the argument, its value and the rule."""

from __future__ import annotations

import torch
from torch import Tensor


def check_features(name: str, features: Tensor, min_rows: int = 1) -> Tensor:
    """Return `features` (N, D) as float32 or float64, detached.

    Half precision is widened, because sums over thousands of rows need the digits.

    Raises:
        ValueError: not a floating-point matrix, fewer than `min_rows` rows, no column, or not all finite.
    """
    if features.ndim != 2 or features.shape[0] < min_rows or features.shape[1] < 1:
        raise ValueError(
            f"{name} must be a matrix (N, D) with N >= {min_rows} and D >= 1, but its shape is {tuple(features.shape)}"
        )
    if not features.is_floating_point():
        raise ValueError(f"{name} must be floating point, but its dtype is {features.dtype}")
    features = features.detach()
    if features.dtype != torch.float64:
        features = features.float()
    finite = torch.isfinite(features).all(dim=1)
    if not bool(finite.all()):
        first = int((~finite).nonzero()[0])
        raise ValueError(
            f"{name} must be finite, but {int((~finite).sum())} of {len(features)} rows are not (first: {first})"
        )
    return features


def check_labels(name: str, labels: Tensor, rows: int, allow_unlabelled: bool = False) -> Tensor:
    """Return `labels` (N,) as int64.

    Raises:
        ValueError: not integers, not one for each of the `rows` rows, or negative (-1 passes with `allow_unlabelled`).
    """
    if labels.ndim != 1 or labels.shape[0] != rows:
        raise ValueError(f"{name} must have shape ({rows},), one label a row, but its shape is {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{name} must be integers, but its dtype is {labels.dtype}")
    labels = labels.detach().long()
    lowest = int(labels.min()) if rows else 0
    if lowest < (-1 if allow_unlabelled else 0):
        rule = ">= 0, or -1 for unlabelled" if allow_unlabelled else ">= 0 (drop unlabelled rows first)"
        raise ValueError(f"{name} must be {rule}, but holds {lowest}")
    return labels
