"""The mean log-partition of a batch in row blocks, its gradient computed in the forward pass.

For unit rows z_1..z_2N and temperature T

    mean_i log sum_{a in A(i)} exp(z_i . z_a / T),     A(i) = everything but i (and, on request, but its other view).

This is the only part of InfoNCE, SupCon and DCL that couples all pairs; the positives need O(2N d). Nothing of size
2N x 2N is ever held: memory is O(block x 2N). With p_ij the softmax of row i over A(i), the gradient is

    d/dz_i = 1 / (2N T) * sum_j (p_ij + p_ji) z_j,

so two sweeps do it: one for the row sums, one for the gradient. The similarity matrix is symmetric, so one process
visits only its upper half in both: two matrix products' worth of arithmetic instead of the four of plain autograd.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from clop_det.losses.batch import Batch, gather_views

# Logits are bounded by 1/T. Up to this bound exp(logit) is a normal number with room for the sum of 2^24 of them, so
# that the log-sum-exp needs no shift; beyond it the shifted form is used.
_LARGEST_PLAIN_LOGIT = {torch.float32: 70.0, torch.float64: 600.0}
# Rows of one block: few enough for memory and the processor's cache, many enough that the products stay efficient.
_BLOCK_ROWS = {"cpu": 512, "cuda": 1024}


def mean_log_partition(batch: Batch, temperature: float, exclude_other_view: bool = False) -> Tensor:
    """Mean over all 2N rows of the log-sum-exp of the similarities to all other rows, over T.

    Args:
        batch: embeddings of all ranks; each rank does the arithmetic of its own rows.
        temperature: T > 0.
        exclude_other_view: leave the positive pair out of the sum (DCL).

    Returns:
        Scalar. Its double backward raises RuntimeError: the stored gradient has no graph.
    """
    unit = batch.unit
    want_gradient = torch.is_grad_enabled() and unit.requires_grad
    result: Tensor = _MeanLogPartition.apply(unit, batch, temperature, exclude_other_view, want_gradient)
    return result


class _MeanLogPartition(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, batch: Batch, temperature: float, exclude_other_view: bool, want_gradient: bool
    ) -> Tensor:
        scaled = unit.detach() * temperature**-0.5  # products of two rows are then logits
        symmetric = len(batch.sizes) == 1 and 1 / temperature <= _LARGEST_PLAIN_LOGIT[unit.dtype]
        sweep = _symmetric_sweep if symmetric else _row_sweep
        value, gradient = sweep(scaled, batch, exclude_other_view, want_gradient)
        if gradient is not None:
            ctx.save_for_backward(gradient.mul_(temperature**-0.5 / len(unit)))
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("the gradient of the log-partition is computed in the forward pass: no double backward")
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0], None, None, None, None


def _symmetric_sweep(x: Tensor, batch: Batch, exclude: bool, want_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """One process, logits small enough for exp: visit the rows a:b against the columns from a on."""
    count = len(x)
    block = _block_rows(count, x.device)
    buffer = x.new_empty(block * count)

    def strips() -> Iterator[tuple[int, int, Tensor]]:
        for a, b in _blocks(slice(0, count), block):
            strip = torch.mm(x[a:b], x[a:].t(), out=buffer[: (b - a) * (count - a)].view(b - a, count - a)).exp_()
            _clear(strip, 0, count, exclude, 0.0)
            yield a, b, strip

    sums = x.new_zeros(count)
    for a, b, strip in strips():
        sums[a:b] += strip.sum(1)
        sums[b:] += strip[:, b - a :].sum(0)
    value = sums.log().mean()
    if not want_gradient:
        return value, None
    inverse = sums.reciprocal_()
    weights = torch.empty_like(buffer)
    gradient = torch.zeros_like(x)
    # A batch that is a single block still stands in the buffer.
    for a, b, strip in [(0, count, buffer.view(count, count))] if block == count else strips():
        pair = torch.add(inverse[a:b, None], inverse[a:], out=weights[: strip.numel()].view(strip.shape))
        strip.mul_(pair)
        gradient[a:b].addmm_(strip, x[a:])
        gradient[b:].addmm_(strip[:, b - a :].t(), x[a:b])
    return value, gradient


def _row_sweep(x: Tensor, batch: Batch, exclude: bool, want_gradient: bool) -> tuple[Tensor, Tensor | None]:
    """Any number of ranks, any temperature: the rows of this rank against all columns, with shifted log-sum-exp."""
    count = len(x)
    block = _block_rows(count, x.device)
    buffer = x.new_empty(block * count)

    def strips() -> Iterator[tuple[int, int, Tensor]]:
        for rows in batch.local_rows:
            for a, b in _blocks(rows, block):
                strip = torch.mm(x[a:b], x.t(), out=buffer[: (b - a) * count].view(b - a, count))
                _clear(strip, a, count, exclude, -torch.inf)
                yield a, b, strip

    own = [torch.logsumexp(strip, dim=1) for _, _, strip in strips()]
    partition = torch.cat([x.new_empty(0), *own])
    if len(batch.sizes) > 1:
        partition = gather_views(partition, batch.sizes)
    value = partition.mean()
    if not want_gradient:
        return value, None
    weights = torch.empty_like(buffer)
    gradient = torch.zeros_like(x)
    for a, b, strip in strips():
        by_column = torch.sub(strip, partition, out=weights[: strip.numel()].view(strip.shape)).exp_()
        strip.sub_(partition[a:b, None]).exp_().add_(by_column)
        torch.mm(strip, x, out=gradient[a:b])
    return value, gradient


def _clear(strip: Tensor, offset: int, count: int, exclude_other_view: bool, value: float) -> None:
    """Set a row's similarity to itself (column = row + offset), and on request to its other view, to `value`."""
    strip.diagonal(offset).fill_(value)
    if exclude_other_view:
        for other in (offset + count // 2, offset - count // 2):
            if -len(strip) < other < strip.shape[1]:
                strip.diagonal(other).fill_(value)


def row_blocks(x: Tensor) -> Iterator[tuple[int, int]]:
    """The blocks a:b in which the rows of `x` are visited."""
    return _blocks(slice(0, len(x)), _block_rows(len(x), x.device))


def _block_rows(count: int, device: torch.device) -> int:
    return min(count, _BLOCK_ROWS.get(device.type, _BLOCK_ROWS["cuda"]))


def _blocks(rows: slice, block: int) -> Iterator[tuple[int, int]]:
    for a in range(rows.start, rows.stop, block):
        yield a, min(a + block, rows.stop)
