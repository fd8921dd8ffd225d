"""Parts of methods: LOSS.NAME's loss beside the method's own terms, a queue, and means and rows of all ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from clop_det.keys import at_least
from clop_det.methods.base import Method, MethodContext

LOSS_WEIGHT = (
    "Weight of the loss that LOSS.NAME names, of the embeddings that are trained; 0: without it. prototype_pull is"
    " CLOP's pull.",
    at_least(0),
)


class MethodWithLoss(Method):
    """A method whose own terms stand beside the loss that LOSS.NAME names.

    Args:
        context: of the run.
        loss_weight: weight of that loss, at least 0; 0: the method has no such loss.
    """

    def __init__(self, context: MethodContext, loss_weight: float) -> None:
        super().__init__(context)
        self.loss_weight = loss_weight
        if loss_weight > 0:
            self.loss = context.build_loss()

    def with_loss(self, parts: dict[str, Tensor], embeddings: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The method's own parts, averaged over the ranks, and the weighted ones of LOSS.NAME.

        Args:
            parts: means over the images of this rank, as many on every rank.
            embeddings: (2n, d), first views, then second views.
            labels: (n,).
        """
        parts = {name: mean_over_ranks(part) for name, part in parts.items()}
        if self.loss is None:
            return parts
        return parts | {name: self.loss_weight * part for name, part in self.loss.parts(embeddings, labels).items()}


class Queue(nn.Module):
    """The latest rows of all ranks, the oldest written over first (MoCo: He et al. 2020). Saved with the method.

    Args:
        size: number of rows, at least 1.
        dim: d.
        empty: whether it starts with zeros instead of random unit rows.
    """

    rows: Tensor
    place: Tensor

    def __init__(self, size: int, dim: int, empty: bool = False) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"queue={size}: must be at least 1")
        rows = torch.zeros(size, dim) if empty else nn.functional.normalize(torch.randn(size, dim), dim=1)
        self.register_buffer("rows", rows)
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
