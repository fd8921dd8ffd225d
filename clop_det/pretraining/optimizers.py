"""SGD, LARS and AdamW, with Detectron2's rules for what is not decayed (norms; biases if so configured).

Their learning rate may follow the global batch by a rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

from clop_det.errors import UserError


class LARS(torch.optim.Optimizer):
    """SGD with momentum and layer-wise adaptive rates (You, Gitman, Ginsburg 2017, arXiv 1708.03888, algorithm 1).

    The step of a matrix or kernel is scaled by `trust_coefficient * |w| / (|g| + weight_decay * |w|)`. Tensors of one
    dimension (norms, biases) are not scaled, decayed or not, as in the public large-batch recipes.
    """

    def __init__(
        self,
        params: Any,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust_coefficient}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        if closure is not None:
            raise ValueError("closure is given, but LARS takes a single gradient a step")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        decay, gradient = group["weight_decay"], parameter.grad
        assert gradient is not None
        decayed = gradient + decay * parameter
        if parameter.dim() > 1:
            weight_norm, gradient_norm = parameter.norm(), gradient.norm()
            scale = group["trust"] * weight_norm / (gradient_norm + decay * weight_norm)
            # A zero weight or gradient has no direction to adapt to: plain SGD there.
            decayed *= torch.where((weight_norm > 0) & (gradient_norm > 0), scale, torch.ones_like(scale))
        buffer = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
        buffer.mul_(group["momentum"]).add_(decayed)
        parameter.add_(buffer, alpha=-group["lr"])


def _sgd(params: Any, cfg: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        params,
        lr=scaled_learning_rate(cfg),
        momentum=cfg.SOLVER.MOMENTUM,
        nesterov=cfg.SOLVER.NESTEROV,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
    )


def _lars(params: Any, cfg: CfgNode) -> torch.optim.Optimizer:
    return LARS(
        params,
        lr=scaled_learning_rate(cfg),
        momentum=cfg.SOLVER.MOMENTUM,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        trust_coefficient=cfg.SOLVER.LARS_TRUST_COEFFICIENT,
    )


def _adamw(params: Any, cfg: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, lr=scaled_learning_rate(cfg), weight_decay=cfg.SOLVER.WEIGHT_DECAY)


LR_SCALINGS: dict[str, Callable[[float], float]] = {"none": lambda ratio: 1.0, "linear": float, "sqrt": math.sqrt}


def scaled_learning_rate(cfg: CfgNode) -> float:
    """SOLVER.BASE_LR after the rule SOLVER.LR_SCALING for the global batch (Goyal et al. 2017; Krizhevsky 2014)."""
    solver = cfg.SOLVER
    return float(solver.BASE_LR) * LR_SCALINGS[solver.LR_SCALING](solver.IMS_PER_BATCH / solver.LR_REFERENCE_BATCH)


def describe_scale(cfg: CfgNode, world_size: int) -> str:
    """The global batch and the learning rate before and after scaling, as a line of the log."""
    solver = cfg.SOLVER
    local = solver.IMS_PER_BATCH // world_size
    pieces = f" in {solver.ACCUMULATE} micro-batches of {local // solver.ACCUMULATE}" if solver.ACCUMULATE > 1 else ""
    before, after = float(solver.BASE_LR), scaled_learning_rate(cfg)
    rule = "as given" if solver.LR_SCALING == "none" else f"batch / {solver.LR_REFERENCE_BATCH}"
    return (
        f"global batch {solver.IMS_PER_BATCH} images = {world_size} x {local}{pieces}; "
        f"learning rate {before:g} -> {after:g} (SOLVER.LR_SCALING {solver.LR_SCALING}: {rule})"
    )


OPTIMIZERS: dict[str, Callable[[Any, CfgNode], torch.optim.Optimizer]] = {"SGD": _sgd, "LARS": _lars, "AdamW": _adamw}


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that SOLVER.OPTIMIZER names, over the model's trainable parameters.

    With SOLVER.CLIP_GRADIENTS.ENABLED each step first clips every parameter's gradient by itself, as in detection.

    Raises:
        UserError: Nesterov's momentum where the optimiser has none.
    """
    _check(cfg.SOLVER)
    params = get_default_optimizer_params(
        model,
        base_lr=scaled_learning_rate(cfg),
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    optimizer: torch.optim.Optimizer = maybe_add_gradient_clipping(cfg, OPTIMIZERS[cfg.SOLVER.OPTIMIZER](params, cfg))
    return optimizer


def _check(solver: CfgNode) -> None:
    """Refuse Nesterov's momentum where none has it."""
    if solver.NESTEROV and (solver.OPTIMIZER != "SGD" or solver.MOMENTUM == 0):
        raise UserError(
            f"SOLVER.NESTEROV is True, but SOLVER.OPTIMIZER is {solver.OPTIMIZER}, SOLVER.MOMENTUM {solver.MOMENTUM}:"
            " only SGD with a momentum above 0 has it. Set SOLVER.NESTEROV False."
        )
