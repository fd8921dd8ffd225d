"""Detectron2's schedule of the learning rate, with settings that it refuses named."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from clop_det.errors import UserError


def build_schedule(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """The schedule that SOLVER.LR_SCHEDULER_NAME names, over SOLVER.MAX_ITER steps of `optimizer`.

    Raises:
        UserError: a last learning rate above the first, steps that do not rise.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and not 0 <= solver.BASE_LR_END <= solver.BASE_LR:
        raise UserError(
            f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}; it must lie between 0 and SOLVER.BASE_LR, {solver.BASE_LR}."
        )
    try:
        schedule: LRScheduler = build_lr_scheduler(cfg, optimizer)
    except (AssertionError, ValueError, TypeError, ArithmeticError) as error:
        raise UserError(
            f"SOLVER.LR_SCHEDULER_NAME {solver.LR_SCHEDULER_NAME} with STEPS {tuple(solver.STEPS)}, MAX_ITER"
            f" {solver.MAX_ITER}, GAMMA {solver.GAMMA}, NUM_DECAYS {solver.NUM_DECAYS}: Detectron2 refuses them"
            f" ({error}). STEPS must rise and stay below MAX_ITER, and NUM_DECAYS be at least 1."
        ) from error
    return schedule
