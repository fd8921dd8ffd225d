"""One encoder and a loss: SimCLR, SupCon, CLOP, VICReg, ..., whichever loss LOSS.NAME names."""

from __future__ import annotations

from torch import Tensor

from clop_det.losses.base import Loss
from clop_det.methods.base import EmbeddingMethod, MethodContext
from clop_det.methods.registry import register_method


@register_method("single")
class Single(EmbeddingMethod):
    """The loss of the embeddings of two views; the loss may hold parameters (a classifier, learned prototypes)."""

    loss: Loss

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        self.loss = context.build_loss()

    def loss_parts(self, rows: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Embeddings (2n,d) and labels (n,) of this rank -> the loss's weighted parts over all ranks, scalars."""
        self.latest_embeddings = rows.detach()
        return self.loss.parts(rows, labels)
