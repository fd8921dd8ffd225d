"""The contrastive losses written out over the 2N x 2N matrix of similarities, to be read and to test against.

Same values and gradients as `InfoNCE`, `SupCon` and `DCL` on one process; memory grows with the square of the batch.
Embeddings are (2N, d), first views then second; labels (N,), -1 = unlabelled; T the temperature.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.losses.batch import NORM_EPSILON


def plain_info_nce(embeddings: Tensor, temperature: float) -> Tensor:
    """Scalar: mean_i -log [ exp(z_i . z_j(i) / T) / sum_{a != i} exp(z_i . z_a / T) ]."""
    logits = _logits(embeddings, temperature)
    return F.cross_entropy(logits.masked_fill(_itself(logits), -torch.inf), _other_view(logits))


def plain_supcon(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Scalar: mean_i 1/|P(i)| sum_{p in P(i)} -log [ exp(z_i . z_p / T) / sum_{a != i} exp(z_i . z_a / T) ]."""
    logits = _logits(embeddings, temperature)
    itself = _itself(logits)
    label = labels.repeat(2)
    same_class = (label[:, None] == label[None, :]) & (label[:, None] >= 0)
    positive = (same_class | itself.roll(len(logits) // 2, dims=1)) & ~itself
    minus_log = torch.logsumexp(logits.masked_fill(itself, -torch.inf), dim=1, keepdim=True) - logits
    return ((minus_log * positive).sum(dim=1) / positive.sum(dim=1)).mean()


def plain_dcl(embeddings: Tensor, temperature: float) -> Tensor:
    """Scalar: mean_i -z_i . z_j(i) / T + log sum_{a != i, j(i)} exp(z_i . z_a / T)."""
    logits = _logits(embeddings, temperature)
    itself = _itself(logits)
    left_out = itself | itself.roll(len(logits) // 2, dims=1)
    attraction = logits.gather(1, _other_view(logits)[:, None])
    return (torch.logsumexp(logits.masked_fill(left_out, -torch.inf), dim=1, keepdim=True) - attraction).mean()


def _logits(embeddings: Tensor, temperature: float) -> Tensor:
    unit = F.normalize(embeddings, dim=1, eps=NORM_EPSILON)
    return unit @ unit.t() / temperature


def _itself(logits: Tensor) -> Tensor:
    """(2N, 2N) mask of a view with itself."""
    return torch.eye(len(logits), dtype=torch.bool, device=logits.device)


def _other_view(logits: Tensor) -> Tensor:
    """(2N,) row of the other view of the same image."""
    return torch.arange(len(logits), device=logits.device).roll(len(logits) // 2)
