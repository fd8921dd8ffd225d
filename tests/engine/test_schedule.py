from __future__ import annotations

import pytest
from torch import nn

from clop_det.config.reading import read_config
from clop_det.engine.schedule import build_schedule
from clop_det.errors import UserError
from clop_det.pretraining.optimizers import build_optimizer

COSINE = ("SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*COSINE, "SOLVER.BASE_LR", "0.1", "SOLVER.BASE_LR_END", "1.0"), r"SOLVER\.BASE_LR_END is 1\.0.*0\.1"),
        ((*COSINE, "SOLVER.BASE_LR_END", "-1.0"), r"SOLVER\.BASE_LR_END is -1\.0"),
        (("SOLVER.STEPS", "(20, 10)", "SOLVER.MAX_ITER", "30"), r"STEPS \(20, 10\)"),
        (("SOLVER.LR_SCHEDULER_NAME", "WarmupStepWithFixedGammaLR", "SOLVER.NUM_DECAYS", "0"), "NUM_DECAYS 0"),
    ],
)
def test_a_schedule_that_detectron2_refuses_is_named(options: tuple[str, ...], message: str) -> None:
    cfg = read_config("", list(options))
    with pytest.raises(UserError, match=message):
        build_schedule(cfg, build_optimizer(cfg, nn.Linear(1, 1)))


def test_warm_up_then_the_whole_rate() -> None:
    cfg = read_config("", [*COSINE, "SOLVER.BASE_LR", "0.1", "SOLVER.WARMUP_ITERS", "2", "SOLVER.MAX_ITER", "1000"])
    optimizer = build_optimizer(cfg, nn.Linear(1, 1))
    schedule = build_schedule(cfg, optimizer)
    rates = []
    for _ in range(3):
        rates += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.0001, 0.05005, 0.1], rel=1e-4)
