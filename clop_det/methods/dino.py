"""DINO: the student's views, small crops among them, agree with its teacher's on a soft choice of prototypes."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from clop_det.data.views import STANDARD, TWO_VIEWS, ViewGroup, Views
from clop_det.keys import above, at_least, between, rising_pair
from clop_det.methods.base import MethodContext
from clop_det.methods.momentum import TEACHER_OPTIONS, TeacherMethod
from clop_det.methods.parts import mean_over_ranks
from clop_det.methods.registry import register_method


@register_method(
    "dino",
    {
        **TEACHER_OPTIONS,
        "PROTOTYPES": ("Number P of prototypes.", at_least(2)),
        "STUDENT_TEMPERATURE": ("Temperature of the student's softmax.", above(0)),
        "TEACHER_TEMPERATURE": ("Temperature of the teacher's softmax after its warm-up.", above(0)),
        "WARMUP_TEMPERATURE": ("The same at the start of the run.", above(0)),
        "WARMUP": ("Share of the run in which the teacher's temperature rises linearly.", between(0, 1)),
        "FREEZE": ("Share of the run at its start in which the prototypes stand still.", between(0, 1)),
        "CENTRE_MOMENTUM": ("Share of the centre that a step keeps.", between(0, 1)),
        "LOCAL_VIEWS": ("Small views of each image, for the student alone.", at_least(0)),
        "LOCAL_SIZE": ("Side of the small views, in pixels.", at_least(1)),
        "LOCAL_CROP_SCALE": (
            "Area of their crops as shares of the image, (low, high).",
            rising_pair(between(0, 1, "(]")),
        ),
    },
)
class Dino(TeacherMethod):
    """Self-distillation with a centred and sharpened teacher, and with crops of two sizes.

        mean over the pairs of a teacher's view u and another view v of  - sum_k p_k(u) log s_k(v)
        p = softmax((t - c) / T_t),   s = softmax(z / T_s),   c <- m_c c + (1 - m_c) mean t

    t, z: P scores, cosines of the embedding with the prototypes of that network (a linear layer of unit rows). The
    teacher sees the two large views, the student all. The embeddings are those of the projector. Labels are not used.
    Source: Caron et al. 2021 (DINO, arXiv 2104.14294), algorithm 1 and section 3.
    """

    centre: Tensor
    progress: Tensor

    def __init__(
        self,
        context: MethodContext,
        momentum: float = 0.996,
        cosine: bool = True,
        probed: str = "teacher",
        loss_weight: float = 0.0,
        prototypes: int = 65536,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        warmup_temperature: float = 0.04,
        warmup: float = 0.3,
        freeze: float = 0.01,
        centre_momentum: float = 0.9,
        local_views: int = 8,
        local_size: int = 96,
        local_crop_scale: tuple[float, float] = (0.05, 0.4),
    ) -> None:
        super().__init__(context, momentum, cosine, probed, loss_weight)
        self.student_temperature, self.centre_momentum = student_temperature, centre_momentum
        self.teacher_temperature, self.warmup_temperature, self.warmup = teacher_temperature, warmup_temperature, warmup
        self.freeze, self.local_views = freeze, local_views
        if local_views:
            low, high = local_crop_scale
            small = ViewGroup((STANDARD,) * local_views, local_size, (low, high), "METHOD.DINO.LOCAL_SIZE")
            self.views_needed = (*TWO_VIEWS, small)
        self.head = nn.Linear(self.encoder.embedding_dim, prototypes, bias=False)
        self.teacher_head = copy.deepcopy(self.head)
        self.register_buffer("centre", torch.zeros(prototypes))
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    @property
    def learned(self) -> tuple[nn.Module, ...]:
        """The student's prototypes."""
        return (self.head,)

    @property
    def followed(self) -> tuple[tuple[nn.Module, nn.Module], ...]:
        """Encoders and prototypes."""
        return (*super().followed, (self.teacher_head, self.head))

    def step(self, views: Views, labels: Tensor) -> dict[str, Tensor]:
        """Two large and L small views of n images -> `dino`."""
        large = self.encode(views.stacked, self.student)[1]
        self.latest_embeddings = large.detach()
        small = [self.encode(group.stacked, self.student)[1] for group in views.further]
        progress = self.progress.to(large.dtype)
        # Frozen prototypes have a gradient of zero, so that the ranks agree on what has one.
        weight = self.head.weight * (progress >= self.freeze)
        weight = weight + self.head.weight.detach() * (progress < self.freeze)
        student = scores(torch.cat([large, *small]), weight).view(-1, len(labels), len(weight))
        teacher = scores(self.teacher_embeddings(views.stacked), self.teacher_head.weight.detach())
        self._mean = mean_over_ranks(teacher.mean(0))
        risen = (progress / self.warmup).clamp(max=1) if self.warmup else 1.0
        temperature = self.warmup_temperature + (self.teacher_temperature - self.warmup_temperature) * risen
        chosen = ((teacher - self.centre) / temperature).softmax(1).view(2, len(labels), -1)
        value = cross_entropies(chosen, student / self.student_temperature)
        return self.with_loss({"dino": value}, large, labels)

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """The teacher and the centre follow."""
        super().after_step(progress)
        self.centre.lerp_(self._mean, 1 - self.centre_momentum)
        self.progress.fill_(progress)


def scores(embeddings: Tensor, weight: Tensor) -> Tensor:
    """Cosines (M, P) of embeddings (M, d) with prototypes (P, d)."""
    return F.linear(F.normalize(embeddings, dim=1), F.normalize(weight, dim=1))


def cross_entropies(chosen: Tensor, logits: Tensor) -> Tensor:
    """Mean cross-entropy of the teacher's choices (2, n, P) and the student's logits (V, n, P) of all other views."""
    terms = -torch.einsum("unp,vnp->uv", chosen, logits.log_softmax(-1))
    pairs = terms.numel() - len(chosen)
    return (terms.sum() - terms.diagonal().sum()) / (pairs * chosen.shape[1])
