"""What the methods with a momentum teacher share: the two networks, and how one follows the other.

The student is trained. The teacher starts as its copy and follows it after every step; no gradient reaches it. Both see
the views of all images of this rank at once, so that BatchNorm takes its statistics over all views (and over all
ranks), where MoCo's authors shuffle images between GPUs instead. Each network keeps its own running statistics.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from clop_det.keys import Rule, between, one_of
from clop_det.methods.base import EmbeddingMethod, MethodContext
from clop_det.methods.encoder import Encoder
from clop_det.methods.parts import LOSS_WEIGHT, MethodWithLoss

NETWORKS = ("student", "teacher")
TEACHER_OPTIONS: Mapping[str, str | tuple[str, Rule]] = {
    "MOMENTUM": ("Share m of the teacher that a step keeps.", between(0, 1)),
    "COSINE": "Whether m rises to 1 at the end of the run by half a cosine; False: it stays.",
    "PROBED": ("Which network is probed, saved as the encoder and converted.", one_of(*NETWORKS)),
    "LOSS_WEIGHT": LOSS_WEIGHT,
}


class TeacherMethod(MethodWithLoss):
    """A student and its momentum teacher; a subclass gives `step`, and `learned` for what it trains beside the student.

    Args:
        context: of the run.
        momentum: m, from 0 to 1.
        cosine: whether m rises to 1, 1 - (1 - m) (cos(pi progress) + 1) / 2 (Grill et al. 2020, appendix).
        probed: "student" or "teacher"; it is `encoder`, and the other one is `paired`.
        loss_weight: weight of LOSS.NAME's loss of the student's embeddings of the first two views.
    """

    def __init__(self, context: MethodContext, momentum: float, cosine: bool, probed: str, loss_weight: float) -> None:
        super().__init__(context, loss_weight)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum={momentum}: must lie in [0, 1]")
        if probed not in NETWORKS:
            raise ValueError(f"probed={probed!r}: must be one of {', '.join(NETWORKS)}")
        self.momentum, self.cosine, self.probed = momentum, cosine, probed
        self.paired = copy.deepcopy(self.encoder)
        self.teacher.backbone.quieten()

    @property
    def student(self) -> Encoder:
        """The network that is trained."""
        return self.encoder if self.probed == "student" else self.paired

    @property
    def teacher(self) -> Encoder:
        """The network that follows."""
        return self.paired if self.probed == "student" else self.encoder

    @property
    def learned(self) -> tuple[nn.Module, ...]:
        """The modules that are trained beside the student and the loss."""
        return ()

    @property
    def followed(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        """Pairs (teacher's module, student's module)."""
        return ((self.teacher, self.student),)

    @property
    def trained(self) -> tuple[nn.Module, ...]:
        """The student, what is learned beside it, and the loss."""
        return (self.student, *self.learned, *([] if self.loss is None else [self.loss]))

    @torch.no_grad()
    def teacher_embeddings(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (V n,3,S,S) -> embeddings (V n,d) of the teacher, without a graph."""
        return self.encode(pixels, self.teacher)[1]

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """The teacher follows: teacher <- m teacher + (1 - m) student, parameter by parameter."""
        keep = self.momentum
        if self.cosine:
            keep = 1 - (1 - keep) * (math.cos(math.pi * progress) + 1) / 2
        for teacher, student in self.followed:
            torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - keep)


class TwoNetworksMethod(TeacherMethod, EmbeddingMethod):
    """A teacher method whose parts are a function of both networks' embeddings; a subclass gives `agreement`."""

    def rows(self, pixels: Tensor) -> Tensor:
        """The student's embeddings and, without a graph, the teacher's: (V n, 2 d)."""
        return torch.cat([self.encode(pixels, self.student)[1], self.teacher_embeddings(pixels)], 1)

    def loss_parts(self, rows: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The method's own parts, and those of LOSS.NAME."""
        embeddings, targets = (part.contiguous() for part in rows.chunk(2, 1))
        self.latest_embeddings = embeddings.detach()
        return self.with_loss(self.agreement(embeddings, targets.detach()), embeddings, labels)

    @abstractmethod
    def agreement(self, embeddings: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Embeddings (2n, d) of the student and of the teacher -> the method's own parts: means over this rank."""
