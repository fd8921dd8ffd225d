"""Decoupled contrastive loss."""

from __future__ import annotations

from torch import Tensor

from clop_det.losses.batch import Batch
from clop_det.losses.info_nce import view_agreement
from clop_det.losses.partition import mean_log_partition
from clop_det.losses.registry import register_loss
from clop_det.losses.temperature import TEMPERATURE, TemperatureLoss


@register_loss("dcl", TEMPERATURE)
class DCL(TemperatureLoss):
    """InfoNCE whose denominator leaves the positive pair out; labels are not used.

        mean_i  -z_i . z_j(i) / T + log sum_{a != i, j(i)} exp(z_i . z_a / T)

    Attraction then no longer fades as a pair gets easy, which helps small batches. Needs at least two images. Source:
    Yeh et al. 2022, equation 6 (a mean over views instead of the sum).

    Args:
        temperature: T > 0.

    Raises:
        ValueError: temperature not above 0.
    """

    min_images = 2

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `dcl`."""
        repulsion = mean_log_partition(batch, self.temperature, exclude_other_view=True)
        return {"dcl": repulsion - view_agreement(batch) / self.temperature}
