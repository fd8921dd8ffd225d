"""Large batches in small pieces, exactly: embeddings first, then the encoder's gradient piece by piece.

A contrastive loss couples all images of a batch, so summing the losses of micro-batches would be another loss, with
fewer negatives. Here the whole batch is embedded without a graph, the loss and its gradient with respect to the
embeddings are taken once over all of them, and each micro-batch is embedded again, with a graph, to carry its share of
that gradient back (gradient caching: Gao et al. 2021, arXiv 2101.06983). The price is one more forward pass, of a
momentum teacher too; the memory for activations is that of one micro-batch. What a method holds behind its rows, a
predictor or a classifier, sees the whole batch.

What does depend on the micro-batch is the encoder's BatchNorm: its statistics are those of the micro-batch (over all
ranks).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from clop_det.data.views import Views
from clop_det.methods import EmbeddingMethod


def backward_in_pieces(
    method: EmbeddingMethod,
    views: Views,
    labels: Tensor,
    pieces: int,
    scaled: Callable[[Tensor], Tensor] = lambda loss: loss,
    seed: Callable[[int], None] = lambda piece: None,
) -> dict[str, Tensor]:
    """Leave the gradient of the loss of the whole (global) batch in the parameters; the loss's parts, detached.

    Every rank calls it with as many images; gradients are averaged over the ranks, as DistributedDataParallel would.

    Args:
        method: the method itself, not wrapped; gradients are added to what its parameters hold.
        views: of the n images of this rank.
        labels: (n,) of this rank.
        pieces: number of micro-batches; n must be a multiple.
        scaled: from the loss to what the gradient is taken of (`LossScale.scaled`).
        seed: seeds torch's generators for a micro-batch; it is embedded twice with the same random numbers.
    """

    def rows(piece: int) -> Tensor:
        seed(piece)
        return method.rows(batches[piece])

    count = len(views.kinds)
    batches = split_views(views.stacked, pieces, count)
    with torch.no_grad(), running_statistics_kept(method):
        cached = join_views([rows(piece) for piece in range(pieces)], count)
    cached.requires_grad_()
    parts = method.loss_parts(cached, labels)
    torch.autograd.backward(scaled(total(parts)))
    assert cached.grad is not None
    for piece, gradient in enumerate(split_views(cached.grad, pieces, count)):
        torch.autograd.backward(rows(piece), gradient)
    average_gradients(method)
    return {name: part.detach() for name, part in parts.items()}


def total(parts: dict[str, Tensor]) -> Tensor:
    """The sum of the parts, scalar: what is minimised."""
    return sum(parts.values(), torch.zeros((), device=next(iter(parts.values())).device))


def split_views(rows: Tensor, pieces: int, views: int = 2) -> list[Tensor]:
    """Cut (V n,...) into `pieces` batches (V n/pieces,...), each the first views of its images, then the second, ..."""
    return [torch.cat(group) for group in zip(*(rows.chunk(pieces) for rows in rows.chunk(views)), strict=True)]


def join_views(batches: list[Tensor], views: int = 2) -> Tensor:
    """The inverse of `split_views`."""
    return torch.cat([rows for group in zip(*(batch.chunk(views) for batch in batches), strict=True) for rows in group])


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
