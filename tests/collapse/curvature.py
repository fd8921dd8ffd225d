"""The critical learning rate of parameters rather than points: where a step along the sharpest direction overshoots.

On free points under repulsion the loss (summed) has curvature 2/T in the direction of the mean, so 2 / (2/T) = T is the
critical learning rate of points (docs/collapse.md). For the weights of an encoder the same number is 2 over the
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
    """The Hessian's largest eigenvalue, by the Lanczos method (Lanczos 1950).

    Hessian-vector products are central differences of gradients: losses with a backward pass of their own cannot be
    differentiated twice.

    Args:
        loss: computes the scalar from `parameters`, the same at every call.
        parameters: tensors with requires_grad; as they were afterwards.
        steps: iterations >= 1; each costs two forward and backward passes.
        seed: of the starting direction.
        distance: between the parameters and each of the two gradients, along the direction (of length 1), > 0.

    Returns:
        The largest curvature within the Krylov space of that many steps, which approaches the eigenvalue from below,
        whatever the sign of the strongest one. Kept are two vectors as large as the parameters, so that copies of an
        eigenvalue may appear, which does not change the largest.

    Raises:
        ValueError: no parameter, or a number out of range.
    """
    if not parameters or steps < 1 or not distance > 0:
        raise ValueError(f"{len(parameters)} parameters, steps={steps}, distance={distance}: each must be above 0")
    draw = torch.Generator().manual_seed(seed)
    start = _unit([torch.randn(p.shape, generator=draw, dtype=p.dtype).to(p.device) for p in parameters])
    centre = [p.detach().clone() for p in parameters]

    def curved(vector: Sequence[Tensor]) -> list[Tensor]:
        ahead, behind = (_gradient_at(loss, parameters, centre, vector, sign * distance) for sign in (1, -1))
        return [(a - b) / (2 * distance) for a, b in zip(ahead, behind, strict=True)]

    diagonal: list[float] = []
    beside: list[float] = []
    before, vector = [torch.zeros_like(part) for part in start], start
    try:
        for _ in range(steps):
            product = curved(vector)
            along = float(sum((v * h).sum() for v, h in zip(vector, product, strict=True)))
            last = beside[-1] if beside else 0.0
            rest = [h - along * v - last * u for h, v, u in zip(product, vector, before, strict=True)]
            diagonal.append(along)
            beside.append(float(torch.nn.utils.get_total_norm(rest)))
            if not beside[-1] > 0:
                break
            before, vector = vector, _unit(rest)
    finally:
        _move(parameters, centre, start, 0.0)
    off = torch.tensor(beside[:-1], dtype=torch.float64)
    tridiagonal = torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    return float(torch.linalg.eigvalsh(tridiagonal)[-1])


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
