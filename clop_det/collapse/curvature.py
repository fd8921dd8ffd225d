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
    loss: Callable[[], Tensor], parameters: Sequence[Tensor], steps: int = 20, seed: int = 0
) -> float:
    """The Hessian's eigenvalue of largest magnitude, by power iteration on Hessian-vector products.

    Args:
        loss: computes the scalar from `parameters`, the same at every call.
        parameters: tensors with requires_grad; unchanged.
        steps: iterations >= 1; each costs about three backward passes.
        seed: of the starting direction.

    Returns:
        The Rayleigh quotient of the last direction; a bound of the eigenvalue from within.

    Raises:
        ValueError: no parameter, or `steps` below 1.
    """
    if not parameters or steps < 1:
        raise ValueError(f"{len(parameters)} parameters, steps={steps}: need one or more of each")
    draw = torch.Generator().manual_seed(seed)
    vector = _unit([torch.randn(p.shape, generator=draw, dtype=p.dtype).to(p.device) for p in parameters])
    gradients = torch.autograd.grad(loss(), list(parameters), create_graph=True)
    quotient = 0.0
    for taken in range(steps):
        product = torch.autograd.grad(gradients, list(parameters), vector, retain_graph=taken + 1 < steps)
        quotient = float(sum((v * h).sum() for v, h in zip(vector, product, strict=True)))
        if not any(bool(h.any()) for h in product):
            return 0.0
        vector = _unit(list(product))
    return quotient


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
