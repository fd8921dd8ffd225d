"""BYOL: the student predicts what its teacher makes of the other view."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from clop_det.keys import at_least
from clop_det.methods.base import MethodContext
from clop_det.methods.encoder import build_projector
from clop_det.methods.momentum import TEACHER_OPTIONS, TwoNetworksMethod
from clop_det.methods.registry import register_method


@register_method("byol", {**TEACHER_OPTIONS, "HIDDEN_DIM": ("Width of the predictor's hidden layer.", at_least(1))})
class Byol(TwoNetworksMethod):
    """No negatives: the predictor and the slow teacher keep the embeddings from collapsing.

        mean_i  [2 - 2 cos(q(z_i), t'_i)]  +  [2 - 2 cos(q(z'_i), t_i)]

    z, z': the student's embeddings of the two views; t, t': the teacher's, without gradient; q: the predictor. Labels
    are not used. Source: Grill et al. 2020 (BYOL, arXiv 2006.07733), equations 1-3.
    """

    def __init__(
        self,
        context: MethodContext,
        momentum: float = 0.996,
        cosine: bool = True,
        probed: str = "student",
        loss_weight: float = 0.0,
        hidden_dim: int = 512,
    ) -> None:
        super().__init__(context, momentum, cosine, probed, loss_weight)
        dim = self.encoder.embedding_dim
        self.predictor = build_projector(dim, hidden_dim, dim)

    @property
    def learned(self) -> tuple[nn.Module, ...]:
        """The predictor."""
        return (self.predictor,)

    def agreement(self, embeddings: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Two views of n images -> `byol`."""
        cosines = F.cosine_similarity(self.predictor(embeddings), targets.roll(len(targets) // 2, 0))
        return {"byol": 4 - 4 * cosines.mean()}
