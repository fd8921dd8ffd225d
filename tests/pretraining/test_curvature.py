from __future__ import annotations

import re

import pytest
import torch

from clop_det.engine.options import read_config
from clop_det.engine.seeding import derive_seed
from clop_det.errors import UserError
from clop_det.pretraining.build import build_model
from clop_det.pretraining.curvature import initial_curvature, main
from clop_det.pretraining.data import BatchSource, open_data

from .conftest import BASE_CONFIG


def test_the_encoder_has_this_curvature_along_no_other_direction(tiny_options: list[str]) -> None:
    cfg = read_config(BASE_CONFIG, [*tiny_options, "SOLVER.PRECISION", "fp32"])
    curvature = initial_curvature(cfg, 6)
    data = open_data(cfg)
    torch.manual_seed(derive_seed(cfg.SEED, "weights"))
    model = build_model(cfg, len(data.train.classes), torch.device("cpu")).train()
    views, labels = BatchSource(cfg, data, 0, 1, torch.device("cpu"))(0)
    parameters = list(model.parameters())

    def loss() -> torch.Tensor:
        return sum(model(views, labels).values(), torch.zeros(()))

    # Second difference of the loss itself, along the gradient.
    middle = loss()
    gradient = torch.autograd.grad(middle, parameters)
    step = 0.02 / torch.nn.utils.get_total_norm(gradient)
    values = []
    for sign in (1, -2, 1):
        with torch.no_grad():
            for parameter, slope in zip(parameters, gradient, strict=True):
                parameter.add_(sign * step * slope)
            values.append(float(loss()))
    along = (values[0] + values[1] - 2 * float(middle)) / 0.02**2
    assert 0 < along <= 1.2 * curvature


def test_the_command_prints_both_rates(tiny_options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = [*tiny_options, "LOSS.NAME", "info_nce", "LOSS.INFO_NCE.TEMPERATURE", "0.5", "SOLVER.MOMENTUM", "0.9"]
    assert main(["--config-file", BASE_CONFIG, "--lanczos-steps", "2", *options]) == 0
    output = capsys.readouterr().out
    plain, heavy = (
        float(value) for value in re.findall(r"weights (\S+)|0\.9: (\S+)", output) for value in value if value
    )
    assert heavy == pytest.approx(1.9 * plain, rel=1e-3)
    assert "T = 0.5: 8\n" in output  # 16 embeddings
    with pytest.raises(UserError, match="--lanczos-steps 0"):
        main(["--lanczos-steps", "0"])
