"""SimSiam: one view predicts the other, which stands still."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from clop_det.keys import Key, at_least
from clop_det.losses.base import Loss
from clop_det.losses.batch import Batch
from clop_det.losses.registry import LossContext, register_loss


class SimSiam(Loss):
    """Negative cosine of a predicted view with the other view, which gets no gradient.

        -1/2 mean_i [ cos(p(z_i), sg z'_i) + cos(p(z'_i), sg z_i) ]

    p: linear, BatchNorm over the global batch of each view, ReLU, linear; its weights are parameters of the loss.
    Labels are not used; at least two images. Source: Chen and He 2021 (SimSiam, arXiv 2011.10566), equations 1-3.

    Args:
        embedding_dim: d.
        hidden_dim: width of the predictor, at least 1.

    Raises:
        ValueError: hidden_dim below 1.
    """

    min_images = 2

    def __init__(self, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        if hidden_dim < 1:
            raise ValueError(f"hidden_dim={hidden_dim}: must be at least 1")
        self.embedding_dim = embedding_dim
        self.hidden = nn.Linear(embedding_dim, hidden_dim, bias=False)
        # Holds scale and shift, so that the optimiser knows them for those of a norm; `_predict` does the rest.
        self.norm = nn.BatchNorm1d(hidden_dim, track_running_stats=False)
        self.output = nn.Linear(hidden_dim, embedding_dim)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `simsiam`."""
        first, second = batch.views
        agreement = F.cosine_similarity(self._predict(first), second.detach()).mean()
        agreement = agreement + F.cosine_similarity(self._predict(second), first.detach()).mean()
        return {"simsiam": -agreement / 2}

    def _predict(self, rows: Tensor) -> Tensor:
        owned = (self.hidden.weight, self.norm.weight, self.norm.bias, self.output.weight, self.output.bias)
        hidden, scale, shift, weight, bias = (parameter.to(rows.dtype) for parameter in owned)
        # The rows are the global batch's already: this is BatchNorm over all ranks, without running statistics.
        normal = F.batch_norm(F.linear(rows, hidden), None, None, scale, shift, training=True)
        return F.linear(F.relu(normal), weight, bias)

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"hidden_dim={self.norm.num_features}"


@register_loss(
    "simsiam",
    {"HIDDEN_DIM": Key(0, "Width of the predictor's hidden layer; 0: a quarter of the embeddings' d.", at_least(0))},
)
def _build(options: Mapping[str, Any], context: LossContext) -> Loss:
    return SimSiam(context.embedding_dim, options["HIDDEN_DIM"] or max(1, context.embedding_dim // 4))
