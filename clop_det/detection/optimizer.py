"""The optimiser of a fine-tuning: SGD or AdamW, with the rates and decays that the network's family asks for."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_optimizer as build_sgd
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

from clop_det.backbones.registry import family_of_config
from clop_det.errors import UserError


def build_optimizer(cfg: CfgNode, detector: nn.Module, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser that SOLVER.OPTIMIZER names, over the trainable parameters of `model`.

    Args:
        cfg: the config.
        detector: the detector itself.
        model: the same, as data parallelism may wrap it.
    """
    family = family_of_config(cfg)
    factors = family.lr_factors(detector, cfg) if family else {}
    undecayed = family.undecayed if family else ()
    if cfg.SOLVER.OPTIMIZER == "SGD" and not factors and not undecayed:
        return fused(build_sgd(cfg, model))
    solver = cfg.SOLVER
    params = get_default_optimizer_params(
        detector,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        # As the argument bias_lr_factor, the factor of biases would take the place of their layer's.
        lr_factor_func=lambda n: (solver.BIAS_LR_FACTOR if n.endswith(".bias") else 1.0) * factors.get(n, 1.0),
        overrides={name: {"weight_decay": 0.0} for name in undecayed},
    )
    if solver.OPTIMIZER == "AdamW":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(params, lr=solver.BASE_LR, betas=(0.9, 0.999))
    else:
        optimizer = torch.optim.SGD(params, lr=solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV)
    return fused(maybe_add_gradient_clipping(cfg, optimizer))


def fused(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Let SGD update each tensor in one pass over the memory (half the time of the step's own share), in place."""
    if type(optimizer) is torch.optim.SGD and all(
        p.is_floating_point() for g in optimizer.param_groups for p in g["params"]
    ):
        for group in optimizer.param_groups:
            group["foreach"], group["fused"] = False, True
    return optimizer


def check_optimizer(cfg: CfgNode) -> None:
    """Refuse an optimiser that detection does not have.

    Raises:
        UserError: LARS; or Nesterov's momentum without SGD.
    """
    solver = cfg.SOLVER
    if solver.OPTIMIZER not in ("SGD", "AdamW"):
        raise UserError(
            f"SOLVER.OPTIMIZER is {solver.OPTIMIZER!r}, but detection trains with SGD or AdamW. Set one of the two."
        )
    if solver.NESTEROV and solver.OPTIMIZER != "SGD":
        raise UserError(
            f"SOLVER.NESTEROV is True, but SOLVER.OPTIMIZER is {solver.OPTIMIZER}: only SGD has it. Set SOLVER.NESTEROV"
            " False."
        )
