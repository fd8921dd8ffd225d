"""What the methods with a momentum teacher share: the two networks, how one follows the other, and a queue.

The student is trained. The teacher starts as its copy and follows it after every step; no gradient reaches it. Both see
the views of all images of this rank at once, so that BatchNorm takes its statistics over all views (and over all
ranks), where MoCo's authors shuffle images between GPUs instead. Each network keeps its own running statistics.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from clop_det.keys import Rule, at_least, between, one_of
from clop_det.methods.base import Method, MethodContext
from clop_det.methods.encoder import Encoder

NETWORKS = ("student", "teacher")
TEACHER_OPTIONS: Mapping[str, str | tuple[str, Rule]] = {
    "MOMENTUM": ("Share m of the teacher that a step keeps.", between(0, 1)),
    "COSINE": "Whether m rises to 1 at the end of the run by half a cosine; False: it stays.",
    "PROBED": ("Which network is probed, saved as the encoder and converted.", one_of(*NETWORKS)),
    "LOSS_WEIGHT": (
        "Weight of the loss that LOSS.NAME names, of the student's embeddings of the first two views; 0: without it."
        " prototype_pull is CLOP's pull.",
        at_least(0),
    ),
}


class TeacherMethod(Method):
    """A student and its momentum teacher; a subclass gives `step`, and `learned` for what it trains beside the student.

    Args:
        context: of the run.
        momentum: m, from 0 to 1.
        cosine: whether m rises to 1, 1 - (1 - m) (cos(pi progress) + 1) / 2 (Grill et al. 2020, appendix).
        probed: "student" or "teacher"; it is `encoder`, and the other one is `paired`.
        loss_weight: weight of LOSS.NAME's loss of the student's embeddings; 0: the method has no such loss.
    """

    def __init__(self, context: MethodContext, momentum: float, cosine: bool, probed: str, loss_weight: float) -> None:
        super().__init__(context)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum={momentum}: must lie in [0, 1]")
        if probed not in NETWORKS:
            raise ValueError(f"probed={probed!r}: must be one of {', '.join(NETWORKS)}")
        self.momentum, self.cosine, self.probed, self.loss_weight = momentum, cosine, probed, loss_weight
        self.paired = copy.deepcopy(self.encoder)
        if loss_weight > 0:
            self.loss = context.build_loss()

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

    def student_embeddings(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (V n,3,S,S) -> embeddings (V n,d) of the student; the watch over collapse sees them."""
        embeddings = self.encode(pixels, self.student)[1]
        self.latest_embeddings = embeddings.detach()
        return embeddings

    @torch.no_grad()
    def teacher_embeddings(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (V n,3,S,S) -> embeddings (V n,d) of the teacher, without a graph."""
        return self.encode(pixels, self.teacher)[1]

    def with_loss(self, parts: dict[str, Tensor], embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The method's own parts, averaged over the ranks, and the weighted ones of LOSS.NAME.

        Args:
            parts: means over the images of this rank, as many on every rank.
            embeddings: (2n, d) of the student.
            labels: (n,).
        """
        parts = {name: mean_over_ranks(part) for name, part in parts.items()}
        if self.loss is None:
            return parts
        return parts | {name: self.loss_weight * part for name, part in self.loss.parts(embeddings, labels).items()}

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """The teacher follows: teacher <- m teacher + (1 - m) student, parameter by parameter."""
        keep = self.momentum
        if self.cosine:
            keep = 1 - (1 - keep) * (math.cos(math.pi * progress) + 1) / 2
        for teacher, student in self.followed:
            torch._foreach_lerp_(list(teacher.parameters()), list(student.parameters()), 1 - keep)


class Queue(nn.Module):
    """The latest rows of all ranks, the oldest written over first (MoCo: He et al. 2020). Saved with the method.

    Args:
        size: number of rows, at least 1.
        dim: d.
    """

    rows: Tensor
    place: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"queue={size}: must be at least 1")
        self.register_buffer("rows", nn.functional.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def add(self, rows: Tensor) -> None:
        """Write rows (M, d), the same on every rank; of more than fit, the last."""
        size = len(self.rows)
        places = (self.place + torch.arange(len(rows), device=rows.device)) % size
        self.rows[places[-size:]] = rows[-size:].to(self.rows.dtype)
        self.place.copy_((self.place + len(rows)) % size)


def world() -> tuple[int, int]:
    """This process's rank, and the number of ranks."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of a scalar over the ranks, on each of them.

    Its gradient is that of this rank's value, which data parallelism averages over the ranks.
    """
    ranks = world()[1]
    if ranks == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return value + (total / ranks - value.detach())


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """What `mean_over_ranks` makes the weighted mean of (M,) values over all ranks; 0 where no weight is."""
    total = weights.sum()
    ranks = world()[1]
    if ranks > 1:
        dist.all_reduce(total)
    return ranks * (values * weights).sum() / total.clamp(min=torch.finfo(total.dtype).tiny)


@torch.no_grad()
def of_all_ranks(rows: Tensor, views: int) -> Tensor:
    """Rows (V n, d) of this rank, first views first -> (V N, d) of all ranks in that order; as many on every rank."""
    ranks = world()[1]
    if ranks == 1:
        return rows.detach()
    received = [torch.empty_like(rows) for _ in range(ranks)]
    dist.all_gather(received, rows.detach().contiguous())
    return torch.cat([part.view(views, -1, *rows.shape[1:]) for part in received], 1).flatten(0, 1)
