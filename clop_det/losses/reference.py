"""The contrastive losses written out over the 2N x 2N matrix of similarities, to be read and to test against.

Same values and gradients as `InfoNCE`, `SupCon` and `DCL` on one process; memory grows with the square of the batch.
Embeddings are (2N, d), first views then second; labels (N,), -1 = unlabelled; T the temperature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.losses.batch import NORM_EPSILON


def plain_info_nce(embeddings: Tensor, temperature: float) -> Tensor:
    """Scalar: mean_i -log [ exp(z_i . z_j(i) / T) / sum_{a != i} exp(z_i . z_a / T) ]."""
    logits = _logits(embeddings, temperature)
    itself, other = _pair_masks(logits)
    return (torch.logsumexp(logits.masked_fill(itself, -torch.inf), dim=1) - logits[other]).mean()


def plain_supcon(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Scalar: mean_i 1/|P(i)| sum_{p in P(i)} -log [ exp(z_i . z_p / T) / sum_{a != i} exp(z_i . z_a / T) ]."""
    logits = _logits(embeddings, temperature)
    itself, other = _pair_masks(logits)
    label = labels.repeat(2)
    same_class = (label[:, None] == label[None, :]) & (label[:, None] >= 0)
    positive = (same_class | other) & ~itself
    minus_log = torch.logsumexp(logits.masked_fill(itself, -torch.inf), dim=1, keepdim=True) - logits
    return ((minus_log * positive).sum(dim=1) / positive.sum(dim=1)).mean()


def plain_dcl(embeddings: Tensor, temperature: float) -> Tensor:
    """Scalar: mean_i -z_i . z_j(i) / T + log sum_{a != i, j(i)} exp(z_i . z_a / T)."""
    logits = _logits(embeddings, temperature)
    itself, other = _pair_masks(logits)
    return (torch.logsumexp(logits.masked_fill(itself | other, -torch.inf), dim=1) - logits[other]).mean()


def _logits(embeddings: Tensor, temperature: float) -> Tensor:
    unit = torch.nn.functional.normalize(embeddings, dim=1, eps=NORM_EPSILON)
    return unit @ unit.t() / temperature


def _pair_masks(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(2N, 2N) masks: a view with itself, and a view with the other view of its image."""
    itself = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    return itself, itself.roll(len(logits) // 2, dims=1)
