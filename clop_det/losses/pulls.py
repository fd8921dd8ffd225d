"""The pulls of labelled embeddings by their scores with the prototypes: one function each of (scores, labels).

They take the scores z . c_k / T of the S labelled views of the global batch, (S, K), and their labels (S,), and give a
scalar; O(S K), no pair of views is formed. `prototype_softmax`, `dot_regression`, `ntce` and `nonl` are these pulls by
themselves, and CLOP takes one by LOSS.CLOP.PULL.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def softmax_pull(scores: Tensor, labels: Tensor) -> Tensor:
    """mean -log [ exp(z . c_y / T) / sum_k exp(z . c_k / T) ]."""
    return torch.nn.functional.cross_entropy(scores, labels)


def squared_pull(scores: Tensor, labels: Tensor) -> Tensor:
    """mean 1/2 (z . c_y - 1)^2, of scores at T = 1."""
    return (_own(scores, labels) - 1).square().mean() / 2


def ntce_pull(scores: Tensor, labels: Tensor) -> Tensor:
    """mean -log [ exp(c_y . z / T) / sum_{z' in S} exp(c_y . z' / T) ]."""
    return (torch.logsumexp(scores, 0)[labels] - _own(scores, labels)).mean()


def nonl_pull(scores: Tensor, labels: Tensor) -> Tensor:
    """As `ntce_pull`, with the views of other classes alone in the denominator; without any, a view has no term."""
    own_class = labels[:, None] == torch.arange(scores.shape[1], device=labels.device)
    others = scores.masked_fill(own_class, -torch.inf)
    present = (~own_class).any(0)[labels]
    # A class without others would give -inf, whose gradient is no number: it is left out before the sum.
    sums = torch.logsumexp(torch.where(torch.isfinite(others).any(0), others, torch.zeros_like(others)), 0)
    own = _own(scores, labels)
    return torch.where(present, sums[labels] - own, torch.zeros_like(own)).sum() / len(own)


def _own(scores: Tensor, labels: Tensor) -> Tensor:
    return scores.gather(1, labels[:, None])[:, 0]


SCORE_PULLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": squared_pull,
    "softmax": softmax_pull,
    "ntce": ntce_pull,
    "nonl": nonl_pull,
}


def pull_of_labelled(name: str, unit: Tensor, labels: Tensor, prototypes: Tensor, temperature: float) -> Tensor:
    """A pull of `SCORE_PULLS` over the labelled views; without one exactly 0, with zero gradients and a live graph.

    Args:
        name: of the pull.
        unit: (M, d) unit rows.
        labels: (M,) int64, -1 = unlabelled.
        prototypes: (K, d) unit rows.
        temperature: T > 0; "squared" is defined at 1.
    """
    labelled = labels >= 0
    scores = unit[labelled] @ prototypes.t() / temperature
    value = SCORE_PULLS[name](scores, labels[labelled])
    # An empty selection has a live graph with zero gradients.
    return value if bool(labelled.any()) else (0 * unit).sum() + (0 * prototypes).sum()
