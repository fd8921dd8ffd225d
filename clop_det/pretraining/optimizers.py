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
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self._update(parameters, group)

    def _update(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        """All tensors of a group at once: one by one they are hundreds of small kernels."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        decay = group["weight_decay"]
        decayed = torch._foreach_add(gradients, torch._foreach_mul(parameters, decay))
        scaled = [place for place, parameter in enumerate(parameters) if parameter.dim() > 1]
        if scaled:
            weight_norms = torch.stack(torch._foreach_norm([parameters[place] for place in scaled]))
            gradient_norms = torch.stack(torch._foreach_norm([gradients[place] for place in scaled]))
            scales = group["trust"] * weight_norms / (gradient_norms + decay * weight_norms)
            # A zero weight or gradient has no direction to adapt to: plain SGD there.
            scales = torch.where((weight_norms > 0) & (gradient_norms > 0), scales, 1.0)
            torch._foreach_mul_([decayed[place] for place in scaled], list(scales.unbind()))
        buffers = [self.state[p].setdefault("momentum_buffer", torch.zeros_like(p)) for p in parameters]
        torch._foreach_mul_(buffers, group["momentum"])
        torch._foreach_add_(buffers, decayed)
        torch._foreach_add_(parameters, buffers, alpha=-group["lr"])


def _sgd(params: Any, cfg: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        params,
        lr=scaled_learning_rate(cfg),
        momentum=cfg.SOLVER.MOMENTUM,
        nesterov=cfg.SOLVER.NESTEROV,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        fused=_fused(params),
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
    return torch.optim.AdamW(
        params, lr=scaled_learning_rate(cfg), weight_decay=cfg.SOLVER.WEIGHT_DECAY, fused=_fused(params)
    )


def _fused(params: Any) -> bool | None:
    """One kernel for all tensors on GPUs; elsewhere torch's own choice (None), whose rounding stays as it was."""
    return True if all(parameter.is_cuda for group in params for parameter in group["params"]) else None


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
