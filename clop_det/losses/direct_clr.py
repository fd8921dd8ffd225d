"""DirectCLR: InfoNCE on a part of the backbone's own features, without a projector."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from clop_det.keys import Key, above, at_least
from clop_det.losses.base import Loss
from clop_det.losses.batch import Batch
from clop_det.losses.info_nce import InfoNCE
from clop_det.losses.registry import LossContext, register_loss


class DirectCLR(Loss):
    """InfoNCE on the first d0 dimensions.

    With PROJECTOR.NUM_LAYERS 0 the embeddings are the pooled features of the backbone, as in the paper. Source: Jing et
    al. 2021 (DirectCLR, arXiv 2110.09348), section 6. Use it to ask whether a projector is what prevents dimensional
    collapse.

    Args:
        dimensions: d0 >= 1, at most the embeddings' dimension.
        temperature: T > 0.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(self, dimensions: int, temperature: float = 0.1) -> None:
        super().__init__()
        if dimensions < 1:
            raise ValueError(f"dimensions={dimensions}: must be at least 1")
        self.dimensions = dimensions
        self.info_nce = InfoNCE(temperature)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `direct_clr`."""
        width = batch.embeddings.shape[1]
        if self.dimensions > width:
            raise ValueError(f"dimensions={self.dimensions}: the embeddings have {width}; must be at most that")
        part = dataclasses.replace(batch, embeddings=batch.embeddings[:, : self.dimensions])
        (value,) = self.info_nce.terms(part).values()
        return {"direct_clr": value}

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"dimensions={self.dimensions}"


@register_loss(
    "direct_clr",
    {
        "DIMENSIONS": Key(0, "Dimensions d0 of the embeddings that the loss sees; 0: a quarter of them.", at_least(0)),
        "TEMPERATURE": Key(0.1, "Temperature T of the softmax over similarities.", above(0)),
    },
)
def _build(options: Mapping[str, Any], context: LossContext) -> Loss:
    return DirectCLR(options["DIMENSIONS"] or max(1, context.embedding_dim // 4), options["TEMPERATURE"])
