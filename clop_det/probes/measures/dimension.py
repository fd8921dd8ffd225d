"""Intrinsic dimension of frozen features: IdEst by the length of minimum spanning trees, TwoNN by two neighbours."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from clop_det.probes.measures.checks import check_features

_SIZES, _DRAWS = 8, 4


def idest(features: Tensor, seed: int = 0) -> float:
    """Intrinsic dimension from how the length of the minimum spanning tree grows with the number of points.

    Mordacq et al. 2026 (IdEst, arXiv 2606.03338). The length of the tree over n points of a d-dimensional set grows as
    n^((d-1)/d), so a straight line through log length against log n has the slope 1 - 1/d; here it runs over 8 sizes
    from an eighth of the points to all of them, with 4 drawn subsets each. High dimensions are estimated too low
    (uniform points of dimension 10: about 8.6). Infinite where the slope reaches 1; 0 if all points are equal.

    Args:
        features: (N, D), N >= 32; equal rows count once.
        seed: of the subsets.

    Raises:
        ValueError: fewer than 32 different rows, unless all are equal, or values that are not finite.
    """
    points = torch.unique(check_features("features", features).double(), dim=0)
    if len(points) == 1:
        return 0.0
    if len(points) < 32:
        raise ValueError(f"features must have at least 32 different rows, but have {len(points)}")
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").cpu().numpy()
    source = np.random.default_rng(seed)
    sizes = np.unique(np.geomspace(max(16, len(points) // 8), len(points), _SIZES).round().astype(int))
    lengths = [
        np.mean([_tree(distances, source.permutation(len(points))[:size]) for _ in range(_draws(size, len(points)))])
        for size in sizes
    ]
    slope = float(np.polyfit(np.log(sizes), np.log(lengths), 1)[0])
    return 1 / (1 - slope) if slope < 1 else float("inf")


def _draws(size: int, total: int) -> int:
    return 1 if size == total else _DRAWS


def _tree(distances: np.ndarray, chosen: np.ndarray) -> float:
    from scipy.sparse.csgraph import minimum_spanning_tree  # half a second, which every command would wait for

    return float(minimum_spanning_tree(distances[np.ix_(chosen, chosen)]).sum())


def two_nn(features: Tensor) -> float:
    """Intrinsic dimension from the two nearest neighbours: N / sum log(r2 / r1).

    Facco et al. 2017 ("Estimating the intrinsic dimension of datasets by a minimal neighborhood information"), the
    maximum-likelihood form. Infinite where every point has two equally near neighbours; 0 if all points are equal.

    Args:
        features: (N, D), N >= 3; equal rows count once.

    Raises:
        ValueError: two different rows alone, or values that are not finite.
    """
    points = torch.unique(check_features("features", features).double(), dim=0)
    if len(points) == 1:
        return 0.0
    if len(points) < 3:
        raise ValueError(f"features must have at least 3 different rows, but have {len(points)}")
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.fill_diagonal_(float("inf")).topk(2, largest=False).values
    total = float((nearest[:, 1] / nearest[:, 0]).log().sum())
    return len(points) / total if total > 0 else float("inf")
