"""Sets of class prototypes: unit rows, drawn from their own seed in float64 on the CPU.

The draw uses exact arithmetic up to the last few bits of float64, so that after rounding to float32 every machine and
every rank holds the same prototypes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def orthonormal_prototypes(num_classes: int, dim: int, seed: int = 0, directions: int = 1) -> Tensor:
    """Orthonormal rows, uniformly distributed: QR of a Gaussian matrix with the signs of R's diagonal taken out.

    Args:
        num_classes: K.
        dim: d >= K * directions.
        seed: of these prototypes alone, at least 0.
        directions: m orthogonal directions per class; the classes' subspaces are orthogonal to each other.

    Returns:
        (K, d) float32, or (K, m, d) if directions > 1.

    Raises:
        ValueError: K * directions > d, or a number out of range.
    """
    _check(num_classes, dim, seed)
    if directions < 1:
        raise ValueError(f"directions={directions}: must be at least 1")
    count = num_classes * directions
    if count > dim:
        raise ValueError(
            f"num_classes={num_classes}, directions={directions}, dim={dim}: {count} orthonormal prototypes do not fit "
            f"into {dim} dimensions; widen the projector to {count} or ask for the prototypes 'low_coherence_frame'"
        )
    rows = _orthonormal_rows(count, dim, seed).float()
    return rows if directions == 1 else rows.view(num_classes, directions, dim)


def simplex_etf(num_classes: int, dim: int, seed: int = 0) -> Tensor:
    """The K vertices of a regular simplex about the origin, randomly turned: all cosines are -1 / (K - 1).

    Args:
        num_classes: K >= 2.
        dim: d >= K - 1.
        seed: of these prototypes alone, at least 0.

    Returns:
        (K, d) float32. Source: Papyan, Han, Donoho 2020, definition 3.

    Raises:
        ValueError: K < 2, d < K - 1, or a number out of range.
    """
    _check(num_classes, dim, seed)
    if num_classes < 2:
        raise ValueError(f"num_classes={num_classes}: a simplex has at least 2 vertices")
    if dim < num_classes - 1:
        raise ValueError(
            f"num_classes={num_classes}, dim={dim}: the simplex of {num_classes} vertices needs {num_classes - 1} "
            "dimensions"
        )
    # Rows of an orthonormal basis of the complement of (1, .., 1): its columns are the vertices in K - 1 dimensions.
    order = torch.arange(1, num_classes, dtype=torch.float64)
    basis = torch.tril(torch.ones(num_classes - 1, num_classes, dtype=torch.float64))
    basis[torch.arange(num_classes - 1), torch.arange(1, num_classes)] = -order
    basis /= (order * (order + 1)).sqrt()[:, None]
    vertices = basis.t() * math.sqrt(num_classes / (num_classes - 1))
    return (vertices @ _orthonormal_rows(num_classes - 1, dim, seed)).float()


def random_unit(num_classes: int, dim: int, seed: int = 0) -> Tensor:
    """(K, d) float32 independent directions, uniform on the sphere; any K and d.

    Raises:
        ValueError: a number out of range.
    """
    _check(num_classes, dim, seed)
    return torch.nn.functional.normalize(_gaussian(num_classes, dim, seed), dim=1).float()


def coherence(prototypes: Tensor) -> float:
    """Largest absolute cosine between two different rows of (K, d) unit rows; 0 for one row."""
    cosines = (prototypes.double() @ prototypes.double().t()).abs().fill_diagonal_(0)
    return float(cosines.max())


def welch_bound(num_classes: int, dim: int) -> float:
    """Lower bound on the coherence of K unit rows in R^d: sqrt((K - d) / (d (K - 1))), 0 for K <= d (Welch 1974)."""
    if num_classes <= dim:
        return 0.0
    return math.sqrt((num_classes - dim) / (dim * (num_classes - 1)))


def _orthonormal_rows(count: int, dim: int, seed: int) -> Tensor:
    columns, triangle = torch.linalg.qr(_gaussian(count, dim, seed).t())
    signs = torch.where(triangle.diagonal() < 0, -1.0, 1.0).to(columns)
    rows: Tensor = (columns * signs).t().contiguous()
    return rows


def _check(num_classes: int, dim: int, seed: int) -> None:
    for argument, value, lowest in (("num_classes", num_classes, 1), ("dim", dim, 1), ("seed", seed, 0)):
        if value < lowest:
            raise ValueError(f"{argument}={value}: must be at least {lowest}")


def _gaussian(rows: int, columns: int, seed: int) -> Tensor:
    """(rows, columns) float64 standard normal numbers by Box and Muller.

    torch's own normal generator takes another path with other last bits on other processors; its uniform numbers are
    exact.
    """
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(2, rows, columns, dtype=torch.float64, generator=generator)
    return torch.log1p(-uniform[0]).mul(-2).sqrt() * torch.cos(2 * math.pi * uniform[1])
