"""InfoNCE (NT-Xent), the base loss of SimCLR."""

from __future__ import annotations

from torch import Tensor

from clop_det.losses.batch import Batch
from clop_det.losses.partition import mean_log_partition
from clop_det.losses.registry import register_loss
from clop_det.losses.temperature import TEMPERATURE, TemperatureLoss


@register_loss("info_nce", TEMPERATURE)
class InfoNCE(TemperatureLoss):
    """Each view finds the other view of its image among all other views; labels are not used.

        mean_i  -log [ exp(z_i . z_j(i) / T) / sum_{a != i} exp(z_i . z_a / T) ]

    over the 2N views z on the unit sphere, j(i) the other view of i. Source: Chen et al. 2020 (SimCLR), equation 1;
    van den Oord et al. 2018.

    Args:
        temperature: T > 0.

    Raises:
        ValueError: temperature not above 0.
    """

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `info_nce`."""
        return {"info_nce": mean_log_partition(batch, self.temperature) - view_agreement(batch) / self.temperature}


def view_agreement(batch: Batch) -> Tensor:
    """Mean cosine of the two views of an image, scalar."""
    first, second = batch.unit.chunk(2)
    return (first * second).sum(1).mean()
