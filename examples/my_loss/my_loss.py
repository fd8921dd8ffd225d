"""A loss of your own: alignment and uniformity (Wang and Isola 2020, arXiv 2005.10242)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clop_det.keys import Key, above, at_least
from clop_det.losses import Loss, LossContext, register_loss
from clop_det.losses.batch import Batch


class AlignUniform(Loss):
    """The two views of an image agree, and all views spread over the sphere.

        mean |z_i - z_j(i)|^2 + weight * log mean_{a < b} exp(-t |z_a - z_b|^2)

    Args:
        weight: of the uniformity, at least 0.
        t: factor of the squared distances, above 0.
    """

    def __init__(self, weight: float, t: float) -> None:
        super().__init__()
        self.weight, self.t = weight, t

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Two terms, each of the global batch: `batch` holds the embeddings of all processes."""
        first, second = batch.unit.chunk(2)
        spread = torch.pdist(batch.unit).square().mul(-self.t).exp().mean().log()
        return {
            "alignment": (first - second).square().sum(1).mean(),
            "uniformity": self.weight * spread,
        }


# The options become the config keys LOSS.ALIGN_UNIFORM.WEIGHT and LOSS.ALIGN_UNIFORM.T.
@register_loss(
    "align_uniform",
    {
        "WEIGHT": Key(1.0, "Weight of the uniformity.", at_least(0)),
        "T": Key(2.0, "Factor of the squared distances.", above(0)),
    },
)
def build(options: Mapping[str, Any], context: LossContext) -> Loss:
    """Build the loss from the values of its options."""
    return AlignUniform(options["WEIGHT"], options["T"])
