"""DirectCLR: InfoNCE on a part of the dimensions."""

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

    Source: Jing et al. 2021 (DirectCLR, arXiv 2110.09348), section 6, where the embeddings are the pooled features of
    the backbone. Pretraining here always has a projector (PROJECTOR.NUM_LAYERS is at least 1), so the loss sees a part
    of the projector's output.

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

    def critical_learning_rate(self, num_embeddings: int) -> float | None:
        """That of InfoNCE on the dimensions that it sees."""
        return self.info_nce.critical_learning_rate(num_embeddings)

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
    if options["DIMENSIONS"] > context.embedding_dim:
        raise ValueError(f"DIMENSIONS={options['DIMENSIONS']}: must be at most the embeddings' {context.embedding_dim}")
    return DirectCLR(options["DIMENSIONS"] or max(1, context.embedding_dim // 4), options["TEMPERATURE"])
