"""Exact assignment of classes to prototypes, in torch alone."""

from __future__ import annotations

import torch
from torch import Tensor


def best_assignment(score: Tensor) -> Tensor:
    """The permutation with the largest total score (Hungarian method, shortest augmenting paths, O(K^3)).

    Args:
        score: (K, K) finite; row = class, column = prototype.

    Returns:
        (K,) int64 on the device of `score`: column of each row, every column once.

    Raises:
        ValueError: not square or not finite.
    """
    if score.dim() != 2 or score.shape[0] != score.shape[1] or not torch.isfinite(score).all():
        raise ValueError(f"score: shape {tuple(score.shape)}; must be a finite square matrix")
    cost = -score.detach().to(device="cpu", dtype=torch.float64)
    size = len(cost)
    # Index `size` stands for "no row" and for the virtual column from which each search starts.
    row_price = torch.zeros(size + 1, dtype=torch.float64)
    column_price = torch.zeros(size + 1, dtype=torch.float64)
    row_of = [size] * (size + 1)
    for row in range(size):
        row_of[size] = row
        _augment(cost, row_price, column_price, row_of)
    assignment = torch.empty(size, dtype=torch.int64)
    assignment[torch.tensor(row_of[:size], dtype=torch.int64)] = torch.arange(size)
    return assignment.to(score.device)


def _augment(cost: Tensor, row_price: Tensor, column_price: Tensor, row_of: list[int]) -> None:
    """Bring the row that waits at the virtual column into the matching along the cheapest alternating path."""
    size = len(cost)
    slack = torch.full((size,), torch.inf, dtype=torch.float64)
    reached = torch.zeros(size + 1, dtype=torch.bool)
    previous = torch.full((size,), size, dtype=torch.int64)
    column = size
    while row_of[column] != size:
        reached[column] = True
        row = row_of[column]
        reduced = cost[row] - row_price[row] - column_price[:size]
        closer = (reduced < slack) & ~reached[:size]
        slack = torch.where(closer, reduced, slack)
        previous[closer] = column
        column = int(torch.where(reached[:size], torch.inf, slack).argmin())
        step = slack[column].clone()
        matched_rows = torch.tensor([row_of[j] for j in reached.nonzero().flatten().tolist()])
        row_price[matched_rows] += step
        column_price[reached] -= step
        slack = torch.where(reached[:size], slack, slack - step)
    while column != size:
        before = int(previous[column])
        row_of[column] = row_of[before]
        column = before
