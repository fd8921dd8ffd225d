"""MMCR: the images' mean views should span as many directions as they can (a nuclear norm)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from clop_det.losses.base import Loss
from clop_det.losses.batch import Batch
from clop_det.losses.registry import LossContext, register_loss


class MMCR(Loss):
    """Maximum manifold capacity: minus the nuclear norm of the (N, d) means of each image's unit views.

        - || 1/2 (Z + Z') ||_*

    Labels are not used. The loss grows with the batch, so its learning rate does not carry over between batch sizes.
    Source: Yerxa et al. 2023 (MMCR, arXiv 2303.03307), equation 3. Use it as a baseline against dimensional collapse
    that has neither negatives nor a covariance.
    """

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `mmcr`."""
        first, second = batch.unit.chunk(2)
        return {"mmcr": -torch.linalg.svdvals((first + second) / 2).sum()}


@register_loss("mmcr")
def _build(options: Mapping[str, Any], context: LossContext) -> Loss:
    return MMCR()
