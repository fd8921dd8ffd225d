"""Targeted supervised contrastive loss: SupCon in which fixed prototypes stand among their classes."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.losses.batch import Batch
from clop_det.losses.prototype_scores import TEMPERATURE, PrototypeLoss, register_prototype_loss


@register_prototype_loss("tsc", TEMPERATURE)
class TSC(PrototypeLoss):
    """SupCon (L_out) whose positives and negatives hold each prototype twice, as a member of its class.

        mean_i  1/|P(i)| sum_{p in P(i)} -log [ exp(z_i . z_p / T) / sum_{a != i} exp(z_i . z_a / T) ]

    over the 2N views i; a runs over the views and twice over the prototypes; P(i): the other views of i's class and its
    prototype twice, of an unlabelled image its other view alone. Prototypes are never anchors. Memory is O(4N^2).
    Source: Li et al. 2022 (TSC, arXiv 2111.13998), equation 4; twice as in the authors' code. Use it where classes are
    unbalanced and SupCon lets the rare ones run together.

    Args:
        prototypes: (K, d), one a class.
        temperature: T > 0.
    """

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `tsc`."""
        unit, count = batch.unit, len(batch.unit)
        targets = self.prototypes.to(unit.dtype).repeat(2, 1)
        logits = unit @ torch.cat([unit, targets]).t() / self.temperature
        itself = torch.zeros_like(logits, dtype=torch.bool)
        itself.fill_diagonal_(True)
        logits = logits.masked_fill(itself, -torch.inf)
        positive = self._positive(batch, logits.shape[1]) & ~itself
        log_probability = logits - torch.logsumexp(logits, 1, keepdim=True)
        mean = log_probability.masked_fill(~positive, 0).sum(1) / positive.sum(1)
        return {"tsc": -mean.sum() / count}

    def _positive(self, batch: Batch, columns: int) -> Tensor:
        labels, image = batch.view_labels, torch.arange(batch.num_images, device=batch.labels.device).repeat(2)
        assert self.num_classes is not None
        classes = torch.arange(self.num_classes, device=labels.device).repeat(2)
        known = labels[:, None] >= 0
        among_views = torch.where(known, labels[:, None] == labels, image[:, None] == image)
        positive = torch.cat([among_views, known & (labels[:, None] == classes)], 1)
        assert positive.shape[1] == columns
        return positive
