"""fp16 with a scaled loss: the gradient of fp32 to fp16's precision, and gradients that overflow cost a step each."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from clop_det.config.reading import read_config
from clop_det.errors import UserError
from clop_det.pretraining import build, loss_scale
from clop_det.pretraining.build import check_config
from clop_det.pretraining.data import open_data
from clop_det.pretraining.loss_scale import LossScale
from clop_det.pretraining.trainer import PretrainTrainer

from .conftest import BASE_CONFIG, arguments


def test_the_scale_halves_doubles_and_has_a_floor() -> None:
    scale = LossScale(True)
    assert scale.value == 65536
    for _ in range(1999):
        scale.step_taken()
    saved = scale.state_dict()
    scale.step_taken()
    assert scale.value == 131072
    assert scale.lowered()
    assert scale.value == 65536
    again = LossScale(True)
    again.load_state_dict(saved)
    again.step_taken()
    assert again.value == 131072
    scale.value = 1.0
    assert not scale.lowered()
    assert not LossScale(False).lowered()


def test_scaling_is_undone_exactly_by_a_power_of_two() -> None:
    scale, weight = LossScale(True), torch.tensor([0.1, 0.3], requires_grad=True)
    scale.scaled((weight**3).sum()).backward()
    assert weight.grad is not None
    scale.unscale([weight.grad])
    assert torch.equal(weight.grad, (3 * weight**2).detach())


def trainer_of(tmp_path: Path, options: list[str], *more: str) -> PretrainTrainer:
    cfg = read_config(BASE_CONFIG, [*arguments(tmp_path, options)[2:], "PROBE.ENABLED", "False", *more])
    return PretrainTrainer(cfg, open_data(cfg), {})


FP16 = ("SOLVER.AMP.ENABLED", "True", "SOLVER.PRECISION", "auto")


@pytest.mark.parametrize("pieces", ["1", "2"])
def test_an_fp16_step_has_the_gradient_of_fp32(
    pieces: str, tmp_path: Path, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CPU, which computes in fp16 slowly; the key is for GPUs."""
    monkeypatch.setattr(loss_scale, "_START", 2.0**8)  # which the first steps of a run come down to
    gradients = []
    for more in (FP16, ("SOLVER.PRECISION", "fp32")):
        trainer = trainer_of(tmp_path, tiny_options, "SOLVER.ACCUMULATE", pieces, "SOLVER.MAX_SKIPPED", "0", *more)
        assert trainer.step(0) is not None
        gradients.append(torch.cat([p.grad.flatten() for p in trainer.core.parameters() if p.grad is not None]))
    cosine = torch.nn.functional.cosine_similarity(*gradients, dim=0)
    assert cosine > 0.98
    assert float(gradients[0].norm() / gradients[1].norm()) == pytest.approx(1, abs=0.05)
    assert not torch.equal(*gradients)


def test_gradients_that_overflow_lower_the_scale_and_change_nothing_else(
    tmp_path: Path, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loss_scale, "_START", 2.0**40)
    trainer = trainer_of(tmp_path, tiny_options, *FP16)
    before = {name: tensor.clone() for name, tensor in trainer.core.state_dict().items()}
    with caplog.at_level(logging.INFO):
        assert trainer.step(0) is None
    assert "overflow fp16" in caplog.text
    assert trainer.step.scale.value == 2.0**39
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.core.state_dict().items())
    assert trainer.guard.skipped == 0
    assert trainer.state_dict()["loss_scale"] == {"value": 2.0**39, "good": 0.0}


def test_fp16_needs_a_gpu_and_stands_alone(tiny_options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"SOLVER\.AMP\.ENABLED is fp16.*needs a GPU"):
        check_config(read_config(BASE_CONFIG, [*tiny_options, *FP16]))
    monkeypatch.setattr(build, "check_device", lambda *_: None)
    on_gpu = [*tiny_options, *FP16, "MODEL.DEVICE", "cuda"]
    check_config(read_config(BASE_CONFIG, on_gpu))
    with pytest.raises(UserError, match="two precisions"):
        check_config(read_config(BASE_CONFIG, [*on_gpu, "SOLVER.PRECISION", "bf16"]))
