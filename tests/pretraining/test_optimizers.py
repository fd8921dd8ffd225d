from __future__ import annotations

import pytest
import torch
from torch import nn

from clop_det.engine.options import read_config
from clop_det.errors import UserError
from clop_det.pretraining.optimizers import LARS, build_optimizer, describe_scale


def test_lars_against_lightly() -> None:
    from lightly.utils.lars import LARS as OracleLARS

    weights = [torch.randn(5, 3, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)]
    settings = {"lr": 0.3, "momentum": 0.9, "weight_decay": 1e-2, "trust_coefficient": 0.02}
    runs = []
    for optimizer_class in (LARS, OracleLARS):
        parameters = [nn.Parameter(weight.clone()) for weight in weights]
        optimizer = optimizer_class(parameters, **settings)
        for step in range(5):
            for parameter in parameters:
                parameter.grad = torch.sin(parameter.detach() + step)
            optimizer.step()
        runs.append(parameters)
    for ours, oracle in zip(*runs, strict=True):
        # lightly adds 1e-8 to the denominator of the scale.
        torch.testing.assert_close(ours, oracle, rtol=1e-6, atol=1e-9)


def test_lars_does_not_scale_what_is_not_decayed() -> None:
    parameter = nn.Parameter(torch.tensor([3.0, 4.0]))
    parameter.grad = torch.tensor([1.0, 2.0])
    LARS([parameter], lr=0.1, momentum=0.0, weight_decay=0.0).step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([2.9, 3.8]))


@pytest.mark.parametrize("name", ["SGD", "LARS", "AdamW"])
def test_norms_are_not_decayed(name: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    cfg = read_config("", ["SOLVER.OPTIMIZER", name, "SOLVER.WEIGHT_DECAY", "0.1", "SOLVER.WEIGHT_DECAY_NORM", "0.0"])
    optimizer = build_optimizer(cfg, model)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in model[1].parameters()] == [0.0, 0.0]
    assert decay[id(model[0].weight)] == 0.1


def test_bad_settings_are_named() -> None:
    with pytest.raises(UserError, match="Did you mean AdamW"):
        build_optimizer(read_config("", ["SOLVER.OPTIMIZER", "Adam"]), nn.Linear(1, 1))
    with pytest.raises(UserError, match=r"SOLVER\.BASE_LR"):
        build_optimizer(read_config("", ["SOLVER.BASE_LR", "0"]), nn.Linear(1, 1))


@pytest.mark.parametrize(("rule", "expected"), [("none", 0.1), ("linear", 0.4), ("sqrt", 0.2)])
def test_the_learning_rate_follows_the_global_batch_by_rule(rule: str, expected: float) -> None:
    options = ["SOLVER.BASE_LR", "0.1", "SOLVER.IMS_PER_BATCH", "1024", "SOLVER.LR_SCALING", rule]
    cfg = read_config("", [*options, "SOLVER.LR_REFERENCE_BATCH", "256"])
    (group,) = build_optimizer(cfg, nn.Linear(2, 2)).param_groups
    assert group["lr"] == pytest.approx(expected)
    line = describe_scale(cfg, world_size=4)
    assert "global batch 1024 images = 4 x 256" in line
    assert f"learning rate 0.1 -> {expected:g}" in line


def test_unknown_rules_and_references_are_named() -> None:
    with pytest.raises(UserError, match="must be one of none, linear, sqrt"):
        build_optimizer(read_config("", ["SOLVER.LR_SCALING", "cubic"]), nn.Linear(1, 1))
    with pytest.raises(UserError, match=r"SOLVER\.LR_REFERENCE_BATCH is 0"):
        build_optimizer(read_config("", ["SOLVER.LR_REFERENCE_BATCH", "0"]), nn.Linear(1, 1))
