"""A method of one's own: a second head behind the backbone, with a term of its own in the objective."""

from __future__ import annotations

from torch import Tensor

from clop_det.data.views import Views
from clop_det.keys import at_least
from clop_det.losses import Loss, VICReg
from clop_det.methods import Method, MethodContext, build_projector, register_method


@register_method(
    "two_heads",
    {
        "WEIGHT": ("Weight of the second head's term.", at_least(0)),
        "OUT_DIM": ("Width of the second head.", at_least(1)),
    },
)
class TwoHeads(Method):
    """The loss that LOSS.NAME names on the projector's embeddings, and VICReg on those of a second head.

    The second head is called `tower`. Its tensors are in the checkpoint, and conversion leaves them out.
    """

    loss: Loss

    def __init__(self, context: MethodContext, weight: float = 0.1, out_dim: int = 64) -> None:
        super().__init__(context)
        self.loss = context.build_loss()
        self.tower = build_projector(self.encoder.feature_dim, out_dim, out_dim)
        self.tower_loss = VICReg()
        self.weight = weight

    def step(self, views: Views, labels: Tensor) -> dict[str, Tensor]:
        """Two views of n images -> the loss's parts, and `tower`."""
        features, embeddings = self.encode(views.stacked)
        self.latest_embeddings = embeddings.detach()
        return {
            **self.loss.parts(embeddings, labels),
            "tower": self.weight * self.tower_loss(self.tower(features), labels),
        }
