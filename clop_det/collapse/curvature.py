"""The critical learning rate of parameters rather than points: where a step along the sharpest direction overshoots.

On free points under repulsion the loss (summed) has curvature 2/T in the direction of the mean, so 2 / (2/T) = T is the
critical learning rate of `clop_det.collapse.thresholds`. For the weights of an encoder the same number is 2 over the
largest eigenvalue of the loss's Hessian in the weights, which has to be measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def largest_curvature(
    loss: Callable[[], Tensor], parameters: Sequence[Tensor], steps: int = 20, seed: int = 0, distance: float = 1e-2
) -> float:
    """The Hessian's largest eigenvalue, by power iteration.

    Hessian-vector products are central differences of gradients: losses with a backward pass of their own cannot be
    differentiated twice.

    Args:
        loss: computes the scalar from `parameters`, the same at every call.
        parameters: tensors with requires_grad; as they were afterwards.
        steps: iterations >= 1, twice as many where the strongest curvature is negative; each costs two forward and
            backward passes.
        seed: of the starting direction.
        distance: between the parameters and each of the two gradients, along the direction (of length 1), > 0.

    Returns:
        The Rayleigh quotient of the last direction, which approaches the eigenvalue from below.

    Raises:
        ValueError: no parameter, or a number out of range.
    """
    if not parameters or steps < 1 or not distance > 0:
        raise ValueError(f"{len(parameters)} parameters, steps={steps}, distance={distance}: each must be above 0")
    draw = torch.Generator().manual_seed(seed)
    start = _unit([torch.randn(p.shape, generator=draw, dtype=p.dtype).to(p.device) for p in parameters])
    centre = [p.detach().clone() for p in parameters]

    def iterate(shift: float) -> float:
        vector, quotient = start, 0.0
        for _ in range(steps):
            ahead, behind = (_gradient_at(loss, parameters, centre, vector, sign * distance) for sign in (1, -1))
            product = [(a - b) / (2 * distance) for a, b in zip(ahead, behind, strict=True)]
            quotient = float(sum((v * h).sum() for v, h in zip(vector, product, strict=True)))
            shifted = [h - shift * v for v, h in zip(vector, product, strict=True)]
            if not any(bool(h.any()) for h in shifted):
                break
            vector = _unit(shifted)
        return quotient

    try:
        strongest = iterate(0.0)
        # The eigenvalue of largest magnitude is the lowest one: shifted by it, the highest is the largest.
        return strongest if strongest >= 0 else iterate(strongest)
    finally:
        _move(parameters, centre, start, 0.0)


def _gradient_at(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    centre: Sequence[Tensor],
    vector: Sequence[Tensor],
    distance: float,
) -> tuple[Tensor, ...]:
    _move(parameters, centre, vector, distance)
    return torch.autograd.grad(loss(), list(parameters), materialize_grads=True)


@torch.no_grad()
def _move(parameters: Sequence[Tensor], centre: Sequence[Tensor], vector: Sequence[Tensor], distance: float) -> None:
    for parameter, start, direction in zip(parameters, centre, vector, strict=True):
        parameter.copy_(start if distance == 0 else start + distance * direction)


def stable_learning_rate(curvature: float, momentum: float = 0.0) -> float:
    """Learning rate past which descent overshoots along a direction of this curvature: 2 (1 + beta) / curvature.

    With heavy-ball momentum beta (Polyak 1964), as torch's SGD writes it; infinite where the loss does not curve up.

    Args:
        curvature: eigenvalue of the Hessian.
        momentum: beta in [0, 1).

    Raises:
        ValueError: momentum out of range.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum={momentum}: must lie in [0, 1)")
    return 2 * (1 + momentum) / curvature if curvature > 0 else math.inf


def _unit(vector: Sequence[Tensor]) -> list[Tensor]:
    length = torch.nn.utils.get_total_norm(vector)
    return [part / length for part in vector]
