"""SuNCEt: neighbourhood components of the labelled views (L_in, the other form of supervised contrast)."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.keys import above
from clop_det.losses.base import Loss, check_positive
from clop_det.losses.batch import Batch
from clop_det.losses.registry import register_loss


@register_loss("suncet", {"TEMPERATURE": ("Temperature T of the softmax over similarities.", above(0))})
class SuNCEt(Loss):
    """A labelled view's soft neighbours among the labelled views should be of its class; the others play no part.

        mean_S  -log [ sum_{z' in S, y' = y, z' != z} exp(z . z' / T) / sum_{z' in S, z' != z} exp(z . z' / T) ]

    Without a labelled view exactly 0. Memory is O(|S|^2). Source: Assran et al. 2020 (SuNCEt, arXiv 2006.10803),
    equation 1; Goldberger et al. 2004 (NCA). Use it as a base where few are labelled: it leaves the others to InfoNCE.

    Args:
        temperature: T > 0.

    Raises:
        ValueError: temperature not above 0.
    """

    @property
    def needs_labels(self) -> bool:
        """Without labels it is 0."""
        return True

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        self.temperature = check_positive("temperature", temperature)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `suncet`."""
        labels = batch.view_labels
        rows, labels = batch.unit[labels >= 0], labels[labels >= 0]
        if not len(rows):
            return {"suncet": (0 * batch.unit).sum()}
        logits = rows @ rows.t() / self.temperature
        logits = logits.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), -torch.inf)
        same = logits.masked_fill(labels[:, None] != labels, -torch.inf)
        return {"suncet": (torch.logsumexp(logits, 1) - torch.logsumexp(same, 1)).mean()}

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"temperature={self.temperature}"
