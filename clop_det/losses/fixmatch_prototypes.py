"""FixMatch on fixed prototypes: confident pseudo-labels from the first view, learnt on the second."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.keys import at_least, between
from clop_det.losses.base import check_weight
from clop_det.losses.batch import Batch
from clop_det.losses.prototype_scores import TEMPERATURE, PrototypeLoss, register_prototype_loss


@register_prototype_loss(
    "fixmatch_prototypes",
    {
        **TEMPERATURE,
        "THRESHOLD": ("Least probability t of a pseudo-label.", between(0, 1)),
        "WEIGHT": ("Weight of the pseudo-labelled part.", at_least(0)),
    },
)
class FixMatchPrototypes(PrototypeLoss):
    """Labelled views by cross-entropy over the prototypes, the others by what their first view is sure of.

        1/|S| sum_S CE(y, z C^T / T)  +  w * 1/|U| sum_U 1[max p >= t] CE(argmax p, z' C^T / T),  p = softmax(z C^T / T)

    S: labelled views; U: unlabelled images; z the first (weakly augmented) view, z' the second; p without gradient.
    A part without images is exactly 0. Source: Sohn et al. 2020 (FixMatch, arXiv 2001.07685), equations 3 and 4, with a
    fixed classifier. METHOD.NAME fixmatch gives views of two strengths.

    Args:
        prototypes: (K, d).
        temperature: T > 0.
        threshold: t, from 0 to 1.
        weight: w >= 0 of the pseudo-labels.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self, prototypes: Tensor, temperature: float = 0.1, threshold: float = 0.95, weight: float = 1.0
    ) -> None:
        super().__init__(prototypes, temperature)
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold}: must be at least 0 and at most 1")
        self.threshold = threshold
        self.weight = check_weight("weight", weight)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Two terms: `fixmatch_supervised`, `fixmatch_pseudo`."""
        logits = self.logits(batch.unit)
        labels = batch.view_labels
        known = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")
        weak, strong = logits.chunk(2)
        sure, guess = weak.detach().softmax(1).max(1)
        unlabelled = batch.labels < 0
        taken = unlabelled & (sure >= self.threshold)
        pseudo = torch.nn.functional.cross_entropy(strong, guess, reduction="none")
        return {
            "fixmatch_supervised": known / (labels >= 0).sum().clamp(min=1),
            "fixmatch_pseudo": self.weight * (pseudo * taken).sum() / unlabelled.sum().clamp(min=1),
        }
