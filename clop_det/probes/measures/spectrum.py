"""How many dimensions features really use: measures on their singular values."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.probes.measures.checks import check_features


def singular_values(features: Tensor, centre: bool = False) -> Tensor:
    """Singular values of `features` (N, D), min(N, D) of them in float64, largest first.

    Args:
        features: (N, D).
        centre: subtract the mean row first.

    Raises:
        ValueError: not a finite floating-point matrix.
    """
    matrix = check_features("features", features).double()
    values: Tensor = torch.linalg.svdvals(centred(matrix) if centre else matrix)
    return values


def centred(matrix: Tensor) -> Tensor:
    """`matrix` (N, D) float64 less its mean row; zeros if all rows are equal."""
    rest = matrix - matrix.mean(dim=0)
    # Equal rows leave rounding noise behind, whose spectrum looks like a full-rank one.
    noise = 8 * torch.finfo(torch.float64).eps * matrix.abs().max()
    return torch.where(rest.abs().max() <= noise, 0.0, rest)


def gram_singular_values(matrices: Tensor) -> Tensor:
    """Singular values of `matrices` (..., N, D) float64 by the eigenvalues of the smaller Gram matrix, largest first.

    Much faster than `singular_values`, on GPUs above all, and batched. Squaring costs the small ones: those below about
    1e-7 of the largest are 0 here. Sums over the values, such as entropies, agree to 1e-9 and better.

    Returns:
        (..., min(N, D)) float64.
    """
    rows, columns = matrices.shape[-2:]
    transposed = matrices.transpose(-1, -2)
    gram = matrices @ transposed if rows < columns else transposed @ matrices
    squares = torch.linalg.eigvalsh(gram).flip(-1)
    noise = gram.shape[-1] * torch.finfo(squares.dtype).eps * squares[..., :1]
    values: Tensor = torch.where(squares > noise, squares, 0.0).sqrt()
    return values


def rankme(features: Tensor, epsilon: float = 1e-7) -> float:
    """RankMe (Garrido et al. 2023, arXiv 2210.02885, equations 1-2): exp(-sum_i p_i ln p_i), p = s/sum(s) + epsilon.

    On the singular values s of the uncentred matrix, so one direction shared by all features counts as a dimension.
    Between 1 and min(N, D); 0 for a matrix of zeros.

    Raises:
        ValueError: not a finite floating-point matrix.
    """
    return rankme_of(singular_values(features), epsilon)


def rankme_of(values: Tensor, epsilon: float = 1e-7) -> float:
    """`rankme` from singular values (R,) that are already at hand."""
    total = values.sum()
    if not total > 0:
        return 0.0
    p = values / total + epsilon
    return float((-(p * p.log()).sum()).exp())


def effective_rank(features: Tensor, centre: bool = False) -> float:
    """Effective rank (Roy and Vetterli 2007): exp of the entropy of the singular values scaled to sum 1.

    Between 1 and the rank of the matrix; 0 for a matrix of zeros. Differs from `rankme` by the exact zeros only.

    Args:
        features: (N, D).
        centre: subtract the mean row first.

    Raises:
        ValueError: not a finite floating-point matrix.
    """
    return effective_rank_of(singular_values(features, centre))


def effective_rank_of(values: Tensor) -> float:
    """`effective_rank` from singular values (R,) that are already at hand."""
    return float(effective_ranks_of(values))


def effective_ranks_of(values: Tensor) -> Tensor:
    """Effective ranks (...) from singular values (..., R)."""
    total = values.sum(-1, keepdim=True)
    p = torch.where(total > 0, values / total, 0.0)
    return torch.where(total[..., 0] > 0, torch.special.entr(p).sum(-1).exp(), 0.0)


def nesum(features: Tensor) -> float:
    """NESum (He and Ozay 2022, "Exploring the Gap between Collapsed & Whitened Features"): sum_i lambda_i / lambda_1.

    On the eigenvalues lambda of the covariance of `features` (N, D). Between 1 (one direction) and min(N - 1, D)
    (white); 0 if all rows are equal.

    Raises:
        ValueError: not a finite floating-point matrix.
    """
    eigenvalues = singular_values(features, centre=True).square()
    largest = eigenvalues[0]
    return float(eigenvalues.sum() / largest) if largest > 0 else 0.0


def alpha_req(features: Tensor, first: int = 10, last: int = 100) -> float:
    """alpha-ReQ (Agrawal et al. 2022, arXiv 2202.05808, section 3): exponent of the decay of the features' spectrum.

    The eigenvalues of the covariance of `features` (N, D) fall as i^-alpha; a weighted straight line (weights 1/i) of
    log lambda_i against -log i over i = first..last gives alpha. Values near 1 were found best. NaN where fewer than
    two of these eigenvalues are above rounding.

    Raises:
        ValueError: not a finite floating-point matrix, or not 1 <= first < last.
    """
    if not 1 <= first < last:
        raise ValueError(f"first and last must be 1 <= first < last, but are {first}, {last}")
    eigenvalues = singular_values(features, centre=True).square()
    noise = torch.finfo(torch.float64).eps * eigenvalues[0] * max(features.shape)
    kept = eigenvalues[first - 1 : last]
    kept = kept[kept > noise]
    if len(kept) < 2:
        return float("nan")
    index = torch.arange(first, first + len(kept), dtype=torch.float64, device=kept.device)
    weights = (1 / index) / (1 / index).sum()
    x, y = -index.log(), kept.log()
    x, y = x - (weights * x).sum(), y - (weights * y).sum()
    return float((weights * x * y).sum() / (weights * x * x).sum())
