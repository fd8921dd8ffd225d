"""MoCo v3: the student predicts its teacher's view of the same image among those of the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clop_det.keys import above, at_least
from clop_det.methods.base import MethodContext
from clop_det.methods.encoder import build_projector
from clop_det.methods.momentum import TEACHER_OPTIONS, TwoNetworksMethod
from clop_det.methods.parts import of_all_ranks, world
from clop_det.methods.registry import register_method


@register_method(
    "moco_v3",
    {
        **TEACHER_OPTIONS,
        "TEMPERATURE": ("Temperature T of the softmax over similarities.", above(0)),
        "HIDDEN_DIM": ("Width of the predictor's hidden layer.", at_least(1)),
    },
)
class MoCoV3(TwoNetworksMethod):
    """Negatives are the teacher's embeddings of the other images of the batch; the student has a predictor.

        2 T mean_i  -log [ e^(q_i.t'_i/T) / sum_j e^(q_i.t'_j/T) ]  +  the same with the views exchanged

    q: the predicted embeddings of the student, t: the teacher's, of the batch of all ranks, on the unit sphere. Labels
    are not used. Source: Chen, Xie, He 2021 (MoCo v3, arXiv 2104.02057), algorithm 1.
    """

    def __init__(
        self,
        context: MethodContext,
        momentum: float = 0.99,
        cosine: bool = True,
        probed: str = "student",
        loss_weight: float = 0.0,
        temperature: float = 1.0,
        hidden_dim: int = 512,
    ) -> None:
        super().__init__(context, momentum, cosine, probed, loss_weight)
        self.temperature = temperature
        dim = self.encoder.embedding_dim
        self.predictor = build_projector(dim, hidden_dim, dim)

    @property
    def learned(self) -> tuple[nn.Module, ...]:
        """The predictor."""
        return (self.predictor,)

    def agreement(self, embeddings: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Two views of n images -> `moco`."""
        queries = F.normalize(self.predictor(embeddings), dim=1).chunk(2)
        keys = of_all_ranks(F.normalize(targets, dim=1), 2).chunk(2)
        own = world()[0] * len(queries[0]) + torch.arange(len(queries[0]), device=embeddings.device)
        terms = [
            F.cross_entropy(q @ k.t() / self.temperature, own) for q, k in zip(queries, reversed(keys), strict=True)
        ]
        return {"moco": 2 * self.temperature * torch.stack(terms).sum()}
