"""Alignment and uniformity on the unit sphere (Wang and Isola 2020, arXiv 2005.10242, equations 1 and 2)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.probes.measures.checks import check_features

# Distances held at once: 64 MiB in float32.
_CHUNK_ELEMENTS = 1 << 24


def alignment(first: Tensor, second: Tensor, alpha: float = 2.0) -> float:
    """Mean of |x - y|^alpha over the pairs of rows, rows L2-normalised here; 0 (best) to 2^alpha.

    Args:
        first: embeddings (N, d) of the first views.
        second: embeddings (N, d) of the second views of the same images, in the same order.
        alpha: power, > 0.

    Raises:
        ValueError: shapes, dtypes or values break the rules above, or an embedding is not finite.
    """
    first, second = check_features("first", first), check_features("second", second)
    if first.shape != second.shape:
        raise ValueError(f"first and second must have one shape, but have {tuple(first.shape)}, {tuple(second.shape)}")
    if not alpha > 0:
        raise ValueError(f"alpha must be > 0, but is {alpha}")
    difference = F.normalize(first, dim=1) - F.normalize(second, dim=1)
    return float(torch.linalg.vector_norm(difference, dim=1).pow(alpha).double().mean())


def uniformity(embeddings: Tensor, t: float = 2.0) -> float:
    """Log of the mean of exp(-t |x - y|^2) over the pairs of different rows, rows L2-normalised here.

    0 when all rows point one way; the lower, the more evenly they cover the sphere (uniform rows in many dimensions:
    about -2 t).

    Args:
        embeddings: (N, d), N >= 2.
        t: > 0.

    Raises:
        ValueError: shapes, dtypes or values break the rules above, or an embedding is not finite.
    """
    embeddings = F.normalize(check_features("embeddings", embeddings, min_rows=2), dim=1)
    if not t > 0:
        raise ValueError(f"t must be > 0, but is {t}")
    n, total = len(embeddings), 0.0
    chunk = max(1, _CHUNK_ELEMENTS // n)
    for start in range(0, n, chunk):
        similarity = embeddings[start : start + chunk] @ embeddings.T
        potential = (2 * t * (similarity - 1)).exp()  # |x - y|^2 = 2 - 2 x.y
        potential.diagonal(offset=start).zero_()
        total += float(potential.double().sum())
    return math.log(total / (n * (n - 1)))
