from __future__ import annotations

import pytest
import torch
from torch import nn

from clop_det.config.reading import read_config
from clop_det.engine.schedule import build_schedule
from clop_det.errors import UserError
from clop_det.pretraining.optimizers import LARS, build_optimizer, describe_scale


def test_lars_against_lightly() -> None:
    from lightly.utils.lars import LARS as OracleLARS

    weights = [torch.randn(5, 3, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64)]
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


def test_lars_of_all_tensors_at_once_is_that_of_each_to_the_bit() -> None:
    torch.manual_seed(3)
    weights = [torch.randn(shape) for shape in ((7, 3), (5,), (4, 3, 3, 3), (2, 2))]
    together, alone = ([nn.Parameter(weight.clone()) for weight in weights] for _ in range(2))
    for parameters in (together, alone):
        optimizers = [LARS(parameters, 0.3, weight_decay=0.01)] if parameters is together else [
            LARS([parameter], 0.3, weight_decay=0.01) for parameter in parameters
        ]  # fmt: skip
        for step in range(3):
            for place, parameter in enumerate(parameters):
                parameter.grad = None if place == 3 and step == 1 else torch.sin(parameter.detach() * (step + 2))
            for optimizer in optimizers:
                optimizer.step()
    assert all(torch.equal(first, second) for first, second in zip(together, alone, strict=True))


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_lars_scales_matrices_and_not_biases_whatever_their_decay(decay: float) -> None:
    bias, matrix = nn.Parameter(torch.tensor([3.0, 4.0])), nn.Parameter(torch.tensor([[3.0, 4.0]]))
    gradient = torch.tensor([0.0, 2.0])
    bias.grad, matrix.grad = gradient.clone(), gradient.clone().view(1, 2)
    decayed = gradient + decay * bias.detach()
    LARS([bias, matrix], lr=0.1, momentum=0.0, weight_decay=decay, trust_coefficient=0.02).step()
    torch.testing.assert_close(bias.detach(), torch.tensor([3.0, 4.0]) - 0.1 * decayed)
    scale = 0.02 * 5 / (2 + decay * 5)
    torch.testing.assert_close(matrix.detach()[0], torch.tensor([3.0, 4.0]) - 0.1 * scale * decayed)


@pytest.mark.parametrize("name", ["SGD", "LARS", "AdamW"])
def test_norms_are_not_decayed(name: str) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    cfg = read_config("", ["SOLVER.OPTIMIZER", name, "SOLVER.WEIGHT_DECAY", "0.1", "SOLVER.WEIGHT_DECAY_NORM", "0.0"])
    optimizer = build_optimizer(cfg, model)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decay[id(p)] for p in model[1].parameters()] == [0.0, 0.0]
    assert decay[id(model[0].weight)] == 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["SOLVER.NESTEROV", "True", "SOLVER.OPTIMIZER", "LARS"], r"SOLVER\.NESTEROV is True.*LARS"),
        (["SOLVER.NESTEROV", "True", "SOLVER.OPTIMIZER", "AdamW"], r"SOLVER\.NESTEROV is True.*AdamW"),
        (["SOLVER.NESTEROV", "True", "SOLVER.MOMENTUM", "0"], r"SOLVER\.NESTEROV is True.*MOMENTUM 0"),
    ],
)
def test_settings_that_no_optimiser_honours_are_named(options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_optimizer(read_config("", options), nn.Linear(1, 1))


@pytest.mark.parametrize("name", ["SGD", "LARS", "AdamW"])
@pytest.mark.parametrize("kind", ["value", "norm"])
def test_gradients_are_clipped_as_detectron2_does(name: str, kind: str) -> None:
    """A step with a large gradient is the plain optimiser's step with the gradient clipped by hand."""
    options = ["SOLVER.OPTIMIZER", name, "SOLVER.BASE_LR", "0.1"]
    clip = ["SOLVER.CLIP_GRADIENTS.ENABLED", "True", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0.5"]
    torch.manual_seed(0)
    start, gradients = torch.randn(2, 3), [10 * torch.randn(2, 3) for _ in range(3)]
    ends = []
    for extra in ([*clip, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind], []):
        model = nn.Linear(3, 2, bias=False)
        cfg = read_config("", [*options, *extra])
        optimizer = build_optimizer(cfg, model)
        build_schedule(cfg, optimizer)
        with torch.no_grad():
            model.weight.copy_(start)
        for gradient in gradients:
            clipped = gradient.clamp(-0.5, 0.5) if kind == "value" else gradient * (0.5 / gradient.norm())
            model.weight.grad = gradient.clone() if extra else clipped
            optimizer.step()
        ends.append(model.weight.detach())
    torch.testing.assert_close(*ends)


@pytest.mark.parametrize(("rule", "expected"), [("none", 0.1), ("linear", 0.4), ("sqrt", 0.2)])
def test_the_learning_rate_follows_the_global_batch_by_rule(rule: str, expected: float) -> None:
    options = ["SOLVER.BASE_LR", "0.1", "SOLVER.IMS_PER_BATCH", "1024", "SOLVER.LR_SCALING", rule]
    cfg = read_config("", [*options, "SOLVER.LR_REFERENCE_BATCH", "256"])
    (group,) = build_optimizer(cfg, nn.Linear(2, 2)).param_groups
    assert group["lr"] == pytest.approx(expected)
    line = describe_scale(cfg, world_size=4)
    assert "global batch 1024 images = 4 x 256" in line
    assert f"learning rate 0.1 -> {expected:g}" in line
