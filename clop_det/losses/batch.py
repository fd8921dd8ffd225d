"""The global batch that every loss works on: checked, gathered over the ranks, in full precision.

Every rank computes the same loss of the same global batch. The gradient that reaches a rank's own embeddings is
multiplied by the number of ranks, because DistributedDataParallel averages parameter gradients over the ranks: after
that average it is the gradient of one process that holds the whole batch. Parameters inside a loss get the same
gradient on every rank, which the average leaves as it is. The backward pass holds no collective, so it cannot hang.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# Below this norm a row has no direction that could be trusted; it also bounds the gradient of a row of zeros.
NORM_EPSILON = 1e-6

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class NonFiniteError(ValueError):
    """The embeddings of some rank hold NaN or infinity: the fault of training, not of the caller."""


@dataclass
class LaterChecks:
    """The value checks of gathered batches that `values_checked_later` has put off.

    Attributes:
        finite: for each batch, a bool scalar on its device: whether all embeddings of all ranks are finite.
    """

    finite: list[Tensor] = field(default_factory=list)
    _embeddings: list[Tensor] = field(default_factory=list)

    def add(self, embeddings: Tensor) -> None:
        """Put off the check of `embeddings` (2N, d)."""
        self._embeddings.append(embeddings.detach())
        self.finite.append(torch.isfinite(embeddings.detach()).all())

    def complaint(self) -> str | None:
        """What is wrong, or None; waits for the device."""
        return next((found for found in map(_not_finite, self._embeddings) if found), None)


_later: ContextVar[LaterChecks | None] = ContextVar("later_checks", default=None)


@contextmanager
def values_checked_later() -> Iterator[LaterChecks]:
    """Within, losses do not wait for the device to look at values: the caller reads `LaterChecks` after the step.

    The caller promises that labels are -1 or below the number of classes, and that all ranks hold equally many rows of
    equal dimension and precision. Shapes and types are checked as ever, which needs no waiting.
    """
    checks = LaterChecks()
    token = _later.set(checks)
    try:
        yield checks
    finally:
        _later.reset(token)


@dataclass(frozen=True)
class Batch:
    """The embeddings of all ranks.

    Attributes:
        embeddings: (2N, d), float32 or float64; first views of all ranks in rank order, then second views.
        labels: (N,) int64, -1 = unlabelled.
        sizes: number of images on each rank; they sum to N.
        rank: index of this process in `sizes`.
    """

    embeddings: Tensor
    labels: Tensor
    sizes: tuple[int, ...]
    rank: int

    @property
    def num_images(self) -> int:
        """N, the number of images over all ranks."""
        return sum(self.sizes)

    # Kept by hand: functools.cached_property takes a lock (Python 3.11), which torch.compile cannot trace.
    _kept: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def unit(self) -> Tensor:
        """(2N, d) embeddings on the unit sphere; a row of zeros stays zero."""
        if "unit" not in self._kept:
            self._kept["unit"] = torch.nn.functional.normalize(self.embeddings, dim=1, eps=NORM_EPSILON)
        return self._kept["unit"]

    @property
    def view_labels(self) -> Tensor:
        """(2N,) label of the image that each view shows."""
        if "labels" not in self._kept:
            self._kept["labels"] = self.labels.repeat(2)
        return self._kept["labels"]

    @property
    def views(self) -> tuple[Tensor, Tensor]:
        """(N, d) first views and (N, d) second views, not normalised."""
        first, second = self.embeddings.chunk(2)
        return first, second

    @property
    def local_rows(self) -> tuple[slice, slice]:
        """The rows of `embeddings` that belong to this rank: its first views and its second views."""
        start = sum(self.sizes[: self.rank])
        stop = start + self.sizes[self.rank]
        return slice(start, stop), slice(self.num_images + start, self.num_images + stop)


def gather_batch(
    embeddings: Tensor,
    labels: Tensor,
    num_classes: int | None = None,
    embedding_dim: int | None = None,
    min_images: int = 1,
) -> Batch:
    """Check the input of a loss and gather it over all ranks (over this process alone outside torch.distributed).

    Within `values_checked_later` the values are not looked at here.

    Args:
        embeddings: (2n, d) of this rank, first views then second; half precision is widened to float32.
        labels: (n,) integers of this rank, -1 = unlabelled. Ranks may hold different numbers of images and labels.
        num_classes: K; labels must be below it. None: not limited.
        embedding_dim: the d that is needed. None: any.
        min_images: smallest global N that the loss is defined for.

    Raises:
        ValueError: bad input, on every rank at once if any rank has it, so that nobody waits for the others.
        NonFiniteError: the same for embeddings that are not finite, if nothing else is wrong.
    """
    later = _later.get()
    wrong = _wrong_form(embeddings, labels, embedding_dim)
    complaint = ValueError(wrong) if wrong else _complaint(embeddings, labels, num_classes) if later is None else None
    world_size = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    rank = dist.get_rank() if world_size > 1 else 0
    if world_size > 1 and later is None:
        sizes = _agree(embeddings, complaint, world_size)
    elif complaint:
        raise complaint
    else:
        sizes = (len(labels),) * world_size
    if sum(sizes) < min_images:
        raise ValueError(f"labels: {sum(sizes)} images over all ranks; this loss is defined from {min_images} on")
    wide = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    labels = labels.to(device=embeddings.device, dtype=torch.int64)
    if world_size > 1:
        wide = _GatherViews.apply(wide, sizes, rank)
        labels = torch.cat(gather_rows(labels, sizes))
    if later is not None:
        later.add(wide)
    return Batch(wide, labels, sizes, rank)


def gather_rows(rows: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """All-gather tensors whose first dimensions differ from rank to rank (`sizes`); no gradient."""
    longest = max(sizes)
    padded = rows.new_zeros((longest, *rows.shape[1:]))
    padded[: len(rows)] = rows
    received = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(received, padded)
    return [part[:size] for part, size in zip(received, sizes, strict=True)]


def gather_views(rows: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """All-gather one row per view (first views, then second, on each rank) into the order of `Batch.embeddings`."""
    parts = gather_rows(rows, tuple(2 * size for size in sizes))
    halves = [part.chunk(2) for part in parts if len(part)]
    return torch.cat([first for first, _ in halves] + [second for _, second in halves])


class _GatherViews(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, embeddings: Tensor, sizes: tuple[int, ...], rank: int) -> Tensor:
        ctx.sizes, ctx.rank = sizes, rank
        return gather_views(embeddings.detach().contiguous(), sizes)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        start = sum(ctx.sizes[: ctx.rank])
        count = ctx.sizes[ctx.rank]
        first, second = grads[0].chunk(2)
        # Every rank computed the same loss: the sum of their gradients is this rank's own, as many times as ranks.
        own = torch.cat([first[start : start + count], second[start : start + count]])
        return own * len(ctx.sizes), None, None


def _agree(embeddings: Tensor, complaint: ValueError | None, world_size: int) -> tuple[int, ...]:
    """Tell all ranks the local size and whether the input is good; raise on all of them if one has bad input."""
    rows, dim = (0, 0) if complaint else embeddings.shape
    double = not complaint and embeddings.dtype == torch.float64
    device = embeddings.device if isinstance(embeddings, Tensor) else torch.device("cpu")
    kind = 0 if complaint is None else 1 if isinstance(complaint, NonFiniteError) else 2
    mine = torch.tensor([kind, rows // 2, dim, double], dtype=torch.int64, device=device)
    received = [torch.empty_like(mine) for _ in range(world_size)]
    dist.all_gather(received, mine)
    table = torch.stack(received).tolist()
    worst = max(row[0] for row in table)
    if worst:
        # One type on all ranks: they decide alike whether training can go on.
        bad = [rank for rank, row in enumerate(table) if row[0]]
        other = f"embeddings, labels: rank {bad[0]} reports bad input; its own error says which"
        raise (ValueError if worst == 2 else NonFiniteError)(str(complaint or other))
    if len({tuple(row[2:]) for row in table}) > 1:
        kinds = ", ".join(f"d={row[2]} in {'float64' if row[3] else 'float32'}" for row in table)
        raise ValueError(f"embeddings: the ranks hold {kinds}; all must hold the same dimensions and precision")
    return tuple(row[1] for row in table)


def _complaint(embeddings: Tensor, labels: Tensor, num_classes: int | None) -> ValueError | None:
    """What is wrong with the values of an input of the right form, or None."""
    lowest, highest = labels.min().item(), labels.max().item()
    if lowest < -1:
        return ValueError(f"labels: holds {lowest}; must be -1 (unlabelled) or a class index")
    if num_classes is not None and highest >= num_classes:
        return ValueError(f"labels: holds {highest}; must be below num_classes={num_classes}")
    fault = _not_finite(embeddings)
    return NonFiniteError(fault) if fault else None


def _not_finite(embeddings: Tensor) -> str | None:
    if torch.isfinite(embeddings).all():
        return None
    return f"embeddings: {int((~torch.isfinite(embeddings)).sum())} values are NaN or infinite; all must be finite"


def _wrong_form(embeddings: Tensor, labels: Tensor, dim: int | None) -> str | None:
    if not isinstance(embeddings, Tensor) or embeddings.dim() != 2 or not embeddings.is_floating_point():
        return f"embeddings: {_describe(embeddings)}; must be a floating-point tensor of shape (2N, d)"
    if not embeddings.shape[1]:
        return "embeddings: 0 dimensions; must be at least 1"
    if len(embeddings) % 2 or not len(embeddings):
        return f"embeddings: {len(embeddings)} rows; must be an even number, N first views and then N second views"
    if dim is not None and embeddings.shape[1] != dim:
        return f"embeddings: {embeddings.shape[1]} dimensions; the prototypes or the classifier have {dim}"
    if not isinstance(labels, Tensor) or labels.dtype not in _INTEGERS or labels.shape != (len(embeddings) // 2,):
        return f"labels: {_describe(labels)}; must be integers of shape ({len(embeddings) // 2},), one per image"
    return None


def _describe(value: object) -> str:
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
