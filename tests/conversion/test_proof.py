"""The proof catches what otherwise raises nothing: each silent mistake of hand-written converters ends in an error."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from torch import Tensor, nn

from clop_det.backbones import BACKBONES
from clop_det.backbones.batch_norm import has_trivial_statistics
from clop_det.backbones.parts import IMAGENET_MEAN, IMAGENET_STD
from clop_det.backbones.residual import ARCHITECTURES, ResidualBackbone
from clop_det.backbones.residual.network import move_strides
from clop_det.checkpoints.integrity import save_torch
from clop_det.conversion.proof import (
    Input,
    ParityError,
    prove,
    reference_network,
    relative_error,
    stirred,
    target_config,
)
from clop_det.errors import UserError
from tests.conversion.samples import random_network

RESIDUAL = BACKBONES["residual"]
RGB = Input("RGB", IMAGENET_MEAN, IMAGENET_STD)


def _backbone(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in network.state_dict().items() if RESIDUAL.is_own_name(name)}


def _record(arch: str, **changes: Any) -> dict[str, Any]:
    conventions = {
        "channel_order": "RGB",
        "pixel_mean": list(IMAGENET_MEAN),
        "pixel_std": list(IMAGENET_STD),
        "stride_in_1x1": False,
    }
    return {**RESIDUAL.describe(ARCHITECTURES[arch]), **conventions, **changes}


def _write(path: Path, model: Mapping[str, Tensor], record: Mapping[str, Any], **more: Any) -> Path:
    save_torch({"model": dict(model), "matching_heuristics": True, "provenance": dict(record), **more}, path)
    return path


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {RESIDUAL.detectron2_name(name): tensor for name, tensor in state.items()}


def test_a_right_file_passes_on_both_targets(resnet50: nn.Module, tmp_path: Path):
    state = _backbone(resnet50)
    parity = prove(_write(tmp_path / "a.pth", _renamed(state), _record("resnet50")), state, "resnet50", RGB)
    assert set(parity) == {"FPN", "C4"}
    assert all(set(errors) == {"res2", "res3", "res4", "res5"} for errors in parity.values())
    assert max(error for errors in parity.values() for error in errors.values()) < 5e-6


def test_resnet18_is_proved_on_fpn_only(resnet18: nn.Module, tmp_path: Path):
    state = _backbone(resnet18)
    assert set(prove(_write(tmp_path / "a.pth", _renamed(state), _record("resnet18")), state, "resnet18", RGB)) == {
        "FPN"
    }


def _loaded(path: Path, arch: str, caplog: pytest.LogCaptureFixture) -> int:
    """How many backbone tensors stock Detectron2 loads from a file, without any error."""
    detector = RESIDUAL.target_network(target_config("FPN", RESIDUAL.describe(ARCHITECTURES[arch])))
    for tensor in detector.state_dict().values():
        if tensor.is_floating_point():
            tensor.fill_(float("nan"))
    with caplog.at_level(logging.CRITICAL):
        DetectionCheckpointer(detector).load(str(path))
    state = detector.backbone.bottom_up.state_dict()
    return sum(not bool(tensor.isnan().any()) for tensor in state.values() if tensor.is_floating_point())


# Each of these loads in stock Detectron2 without an error; the number is how many of the 100 tensors arrive.
_SILENT = {
    "encoder prefix left on": (0, lambda s: ({f"module.encoder_q.{k}": v for k, v in _renamed(s).items()}, {})),
    "flag missing": (0, lambda s: (_renamed(s), {"matching_heuristics": False})),
    "raw torchvision names": (1, lambda s: (s, {})),
    "a block counted wrong": (90, lambda s: ({k.replace("res5.1", "res5.2"): v for k, v in _renamed(s).items()}, {})),
    "CIFAR stem": (99, lambda s: (_renamed(s) | {"stem.conv1.weight": torch.ones(64, 3, 3, 3)}, {})),
}  # fmt: skip


@pytest.mark.parametrize("mistake", _SILENT)
def test_mistakes_that_load_too_little(
    mistake: str, resnet18: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    count, make = _SILENT[mistake]
    state = _backbone(resnet18)
    model, more = make(state)
    path = _write(tmp_path / "a.pth", model, _record("resnet18"), **more)
    assert _loaded(path, "resnet18", caplog) == count
    with pytest.raises(UserError, match=r"backbone tensors"):
        prove(path, state, "resnet18", RGB)


def test_bgr(resnet18: nn.Module, tmp_path: Path):
    state = _backbone(resnet18)
    path = _write(tmp_path / "a.pth", _renamed(state), _record("resnet18", channel_order="BGR"))
    with pytest.raises(ParityError, match="channel order"):
        prove(path, state, "resnet18", RGB)


@pytest.mark.parametrize("changes", [{"pixel_mean": [103.53, 116.28, 123.675]}, {"pixel_std": [1.0, 1.0, 1.0]}])
def test_wrong_normalisation(changes: dict[str, Any], resnet18: nn.Module, tmp_path: Path):
    state = _backbone(resnet18)
    path = _write(tmp_path / "a.pth", _renamed(state), _record("resnet18", **changes))
    with pytest.raises(ParityError):
        prove(path, state, "resnet18", RGB)


def test_wrong_stride_is_exact_at_res2_and_wrong_behind_it(resnet50: nn.Module, tmp_path: Path):
    state = _backbone(resnet50)
    path = _write(tmp_path / "a.pth", _renamed(state), _record("resnet50", stride_in_1x1=True))
    with pytest.raises(ParityError, match="stride placement"):
        prove(path, state, "resnet50", RGB)
    # The same file is right for a source that strides there.
    assert set(prove(path, state, "resnet50", RGB, stride_in_1x1=True)) == {"FPN", "C4"}
    images = torch.randn(1, 3, 64, 64)
    right, wrong = reference_network("resnet50", state), reference_network("resnet50", state, stride_in_1x1=True)
    with torch.no_grad():
        right_stages, wrong_stages = right.maps(images), wrong.maps(images)
    errors = {stage: relative_error(wrong_stages[stage], right_stages[stage]) for stage in right_stages}
    assert errors["res2"] == 0
    assert all(errors[stage] > 0.05 for stage in ("res3", "res4", "res5"))


def test_two_tensors_of_one_shape_exchanged(resnet18: nn.Module, tmp_path: Path):
    state = _backbone(resnet18)
    model = _renamed(state)
    one, other = "res3.1.conv1.weight", "res3.1.conv2.weight"
    model[one], model[other] = model[other], model[one]
    with pytest.raises(ParityError, match=r"res3\.1\.conv1\.weight"):
        prove(_write(tmp_path / "a.pth", model, _record("resnet18")), state, "resnet18", RGB)


def test_one_bit_is_enough(resnet18: nn.Module, tmp_path: Path):
    state = _backbone(resnet18)
    model = _renamed({name: tensor.clone() for name, tensor in state.items()})
    model["res5.1.conv2.norm.running_var"][7] += 1e-6
    with pytest.raises(ParityError, match="running_var"):
        prove(_write(tmp_path / "a.pth", model, _record("resnet18")), state, "resnet18", RGB)


def test_depth_in_the_record_that_is_not_the_files(resnet18: nn.Module, tmp_path: Path):
    state = _backbone(resnet18)
    path = _write(tmp_path / "a.pth", _renamed(state), _record("resnet34"))
    with pytest.raises(UserError):
        prove(path, state, "resnet18", RGB)


def test_a_stem_left_out_is_borrowed_from_the_target(resnet18: nn.Module, tmp_path: Path):
    state = {name: tensor for name, tensor in _backbone(resnet18).items() if not name.startswith(("conv1.", "bn1."))}
    path = _write(tmp_path / "a.pth", _renamed(state), _record("resnet18", stem_reinitialised=True))
    assert prove(path, state, "resnet18", RGB)["FPN"]["res2"] < 1e-5
    path = _write(tmp_path / "b.pth", _renamed(state), _record("resnet18"))
    with pytest.raises(UserError, match="stem"):
        prove(path, state, "resnet18", RGB)


def test_a_network_that_overflows_does_not_pass(resnet18: nn.Module, tmp_path: Path):
    state = {name: tensor.clone() for name, tensor in _backbone(resnet18).items()}
    for name in state:
        if name.endswith("bn2.weight"):
            state[name].mul_(1e30)
    with pytest.raises(ParityError, match="nan|inf"):
        prove(_write(tmp_path / "a.pth", _renamed(state), _record("resnet18")), state, "resnet18", RGB)


def test_reference_is_torchvisions_network(resnet18: nn.Module):
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        ours = reference_network("resnet18", _backbone(resnet18)).maps(images)
        theirs = ResidualBackbone.maps(resnet18, images)
    assert all(torch.equal(ours[stage], theirs[stage]) for stage in ours)


def test_moving_strides_keeps_shapes():
    network = torchvision.models.resnet50(weights=None).eval()
    before = network(torch.randn(1, 3, 64, 64)).shape
    move_strides(network)
    assert network.layer2[0].conv1.stride == (2, 2)
    assert network.layer2[0].conv2.stride == (1, 1)
    assert network(torch.randn(1, 3, 64, 64)).shape == before


def test_relative_error():
    assert relative_error(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 0.0])) == pytest.approx(4 / 3)
    assert relative_error(torch.ones(2), torch.ones(3)) == float("inf")
    assert relative_error(torch.zeros(2), torch.zeros(2)) == float("inf"), "two dead networks prove nothing"


def test_trivial_statistics_are_seen_and_stirred():
    fresh = _backbone(torchvision.models.resnet18(weights=None))
    assert has_trivial_statistics(fresh)
    trained = _backbone(random_network("resnet18", seed=5))
    assert not has_trivial_statistics(trained)
    assert has_trivial_statistics(trained | {"layer1.0.bn2.weight": torch.zeros(64)})
    moved = stirred("resnet18", fresh)
    assert moved.keys() == fresh.keys()
    assert not has_trivial_statistics(moved)
    assert torch.equal(moved["layer1.0.conv1.weight"], fresh["layer1.0.conv1.weight"])
