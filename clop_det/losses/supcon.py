"""Supervised contrastive loss, L_out."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.losses.batch import Batch
from clop_det.losses.partition import mean_log_partition
from clop_det.losses.registry import register_loss
from clop_det.losses.temperature import TEMPERATURE, TemperatureLoss


@register_loss("supcon", TEMPERATURE)
class SupCon(TemperatureLoss):
    """All views of an anchor's class are its positives; the log stands inside the mean over them (L_out).

        mean_i  1/|P(i)| sum_{p in P(i)} -log [ exp(z_i . z_p / T) / sum_{a != i} exp(z_i . z_a / T) ]

    P(i): every other view of the same class; of an unlabelled image, its other view alone, so that without labels this
    is InfoNCE. Source: Khosla et al. 2020, equation 2 (the recommended form; equation 3 is L_in).

    Args:
        temperature: T > 0.

    Raises:
        ValueError: temperature not above 0.
    """

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `supcon`."""
        agreement = positive_agreement(batch)
        return {"supcon": mean_log_partition(batch, self.temperature) - agreement / self.temperature}


def positive_agreement(batch: Batch, prototypes: Tensor | None = None) -> Tensor:
    """Mean over views of the mean cosine to their positives, scalar.

    The sum of a view's cosines to its positives is its product with the class sum less itself: O(2N d), no pair mask.

    Args:
        batch: of all ranks.
        prototypes: (K, d), each twice a positive of the labelled views of its class; None: no such positives.
    """
    unit, group = batch.unit, _groups(batch.labels).repeat(2)
    # As many rows as images, not as groups: counting the groups would wait for the device.
    count = group.new_zeros(batch.num_images).index_add(0, group, torch.ones_like(group))
    sums = unit.new_zeros(batch.num_images, unit.shape[1]).index_add(0, group, unit)
    positives, number = sums[group] - unit, count[group] - 1
    if prototypes is not None:
        twice = 2 * (batch.view_labels >= 0).long()
        positives = positives + twice[:, None] * prototypes[batch.view_labels.clamp(min=0)]
        number = number + twice
    return ((positives * unit).sum(1) / number).mean()


def _groups(labels: Tensor) -> Tensor:
    """(N,) number of each image's group: the classes that occur, in their order; then every unlabelled image alone."""
    places = torch.arange(len(labels), device=labels.device)
    keys, order = torch.where(labels < 0, places + (1 << 62), labels).sort()
    begins = torch.cat([keys.new_zeros(1), (keys[1:] != keys[:-1]).long()])
    return torch.empty_like(labels).scatter(0, order, begins.cumsum(0))
