"""BYOL: the student predicts what its teacher makes of the other view."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clop_det.data.views import Views
from clop_det.keys import at_least
from clop_det.methods.base import MethodContext
from clop_det.methods.encoder import build_projector
from clop_det.methods.momentum import TEACHER_OPTIONS, TeacherMethod
from clop_det.methods.registry import register_method


@register_method("byol", {**TEACHER_OPTIONS, "HIDDEN_DIM": ("Width of the predictor's hidden layer.", at_least(1))})
class Byol(TeacherMethod):
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

    def step(self, views: Views, labels: Tensor) -> dict[str, Tensor]:
        """Two views of n images -> `byol`."""
        embeddings = self.student_embeddings(views.stacked)
        first, second = self.teacher_embeddings(views.stacked).chunk(2)
        agreement = F.cosine_similarity(self.predictor(embeddings), torch.cat([second, first]))
        return self.with_loss({"byol": 4 - 4 * agreement.mean()}, embeddings, labels)
