"""Large batches in small pieces, exactly: embeddings first, then the encoder's gradient piece by piece.

A contrastive loss couples all images of a batch, so summing the losses of micro-batches would be another loss, with
fewer negatives. Here the whole batch is embedded without a graph, the loss and its gradient with respect to the
embeddings are taken once over all of them, and each micro-batch is embedded again, with a graph, to carry its share of
that gradient back (gradient caching: Gao et al. 2021, arXiv 2101.06983). The price is one more forward pass; the memory
for activations is that of one micro-batch.

What does depend on the micro-batch is BatchNorm: its statistics are those of the micro-batch (over all ranks).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clop_det.methods.single import PretrainModel


def backward_in_pieces(model: PretrainModel, views: Tensor, labels: Tensor, pieces: int) -> dict[str, Tensor]:
    """Leave the gradient of the loss of the whole (global) batch in the parameters; the loss's parts, detached.

    Every rank calls it with as many images; gradients are averaged over the ranks, as DistributedDataParallel would.

    Args:
        model: the model itself, not wrapped; gradients are added to what its parameters hold.
        views: (2n,3,S,S) of this rank, first views, then second.
        labels: (n,) of this rank.
        pieces: number of micro-batches; n must be a multiple.
    """
    batches = split_views(views, pieces)
    with torch.no_grad(), running_statistics_kept(model):
        cached = join_views([model.embed(batch) for batch in batches])
    cached.requires_grad_()
    parts = model.loss_parts(cached, labels)
    sum(parts.values(), torch.zeros((), device=views.device)).backward()  # type: ignore[no-untyped-call]
    assert cached.grad is not None
    for batch, gradient in zip(batches, split_views(cached.grad, pieces), strict=True):
        model.embed(batch).backward(gradient)  # type: ignore[no-untyped-call]
    average_gradients(model)
    return {name: part.detach() for name, part in parts.items()}


def split_views(rows: Tensor, pieces: int) -> list[Tensor]:
    """Cut (2n,...) into `pieces` batches (2n/pieces,...), each the first and then the second views of its images."""
    first, second = rows.chunk(2)
    return [torch.cat(pair) for pair in zip(first.chunk(pieces), second.chunk(pieces), strict=True)]


def join_views(batches: list[Tensor]) -> Tensor:
    """The inverse of `split_views`."""
    halves = [batch.chunk(2) for batch in batches]
    return torch.cat([first for first, _ in halves] + [second for _, second in halves])


@contextmanager
def running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Within, BatchNorm normalises by its batch as in training but does not count it in its running statistics."""
    layers = [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def average_gradients(model: nn.Module) -> None:
    """Average the gradients over the ranks, in one message."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, averaged in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(averaged.view(gradient.shape))
