"""BatchNorm over the batches of all ranks, on any backend: torch's own SyncBatchNorm exists for GPUs alone.

With it the loss of a data-parallel run is that of one process with the global batch. Two reductions a layer and
direction: the mean, then the variance about it, which loses no digits where the mean is large beside the deviation.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverRanks(torch.autograd.Function):
    """Sum over the ranks; the loss of every rank depends on the sum, so the gradient is summed over the ranks too."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()
        dist.all_reduce(total)
        return total


def _forward_over_ranks(layer: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Normalise x (N,C) or (N,C,H,W) with the statistics of all ranks; ranks may hold different N."""
    others = [dim for dim in range(x.dim()) if dim != 1]
    shape = [1, -1] + [1] * (x.dim() - 2)
    wide = x if x.dtype == torch.float64 else x.float()
    # One reduction for the sum and the count of values.
    count = wide.new_full((1,), x.numel() // x.shape[1])
    sums = _SumOverRanks.apply(torch.cat([wide.sum(others), count]))
    count = sums[-1].detach()
    mean = sums[:-1] / count
    centred = wide - mean.view(shape)
    variance = _SumOverRanks.apply(centred.square().sum(others)) / count
    if layer.track_running_stats:
        _update_running_statistics(layer, mean.detach(), variance.detach() * count / (count - 1))
    scale = (variance + layer.eps).rsqrt()
    if layer.affine:
        scale = scale * layer.weight
    normal = centred * scale.view(shape)
    result: Tensor = (normal + layer.bias.view(shape) if layer.affine else normal).to(x.dtype)
    return result


@torch.no_grad()
def _update_running_statistics(layer: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, unbiased: Tensor) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    assert layer.num_batches_tracked is not None
    layer.num_batches_tracked.add_(1)
    momentum = 1 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean), momentum)
    layer.running_var.lerp_(unbiased.to(layer.running_var), momentum)


class SyncBatchNorm1d(nn.BatchNorm1d):
    """BatchNorm1d that takes its statistics over all ranks while training; parameters and names are the same."""

    def forward(self, x: Tensor) -> Tensor:
        """(N,C) or (N,C,L) of this rank -> the same shape."""
        return _forward_over_ranks(self, x) if self.training else super().forward(x)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d that takes its statistics over all ranks while training; parameters and names are the same."""

    def forward(self, x: Tensor) -> Tensor:
        """(N,C,H,W) of this rank -> the same shape."""
        return _forward_over_ranks(self, x) if self.training else super().forward(x)


_SYNCHRONISED = {nn.BatchNorm1d: SyncBatchNorm1d, nn.BatchNorm2d: SyncBatchNorm2d}


def synchronise_batch_norm(module: nn.Module) -> None:
    """Replace every BatchNorm1d and BatchNorm2d below `module`, in place; parameters, buffers and names stay.

    On a GPU torch's SyncBatchNorm takes their place (one fused kernel), elsewhere the classes of this module. Call it
    before the optimiser is built and before the module is wrapped for data parallelism.
    """
    for name, child in module.named_children():
        kind = type(child)
        if kind in _SYNCHRONISED:
            setattr(module, name, _converted(child, kind))
        else:
            synchronise_batch_norm(child)


def _converted(layer: Any, kind: Any) -> nn.Module:
    if layer.weight is not None and layer.weight.device.type == "cuda":
        gpu: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(layer)  # type: ignore[no-untyped-call]
        return gpu
    new: nn.Module = _SYNCHRONISED[kind](
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    )
    new.train(layer.training)
    # The very tensors, not copies.
    new._parameters.update(layer._parameters)
    new._buffers.update(layer._buffers)
    return new
