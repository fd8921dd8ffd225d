"""Tensors beside the network: counters, random states, averages, heads of any name; and what a person says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from clop_det.conversion.contents import flatten
from clop_det.conversion.convert import convert_checkpoint
from clop_det.conversion.sources import Recognition, recognise
from clop_det.errors import UserError
from tests.conversion.samples import backbone_state, noisy, prefixed

OPTIMIZER = "optimizer and trainer state"


def _recognise(content: Any, **wish: Any) -> Recognition:
    return recognise(flatten(content, Path("a.pth")), **wish)


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"n_averaged": torch.tensor(3)}, "counter"),
        ({"steps": torch.tensor(3)}, "counter"),
        ({"averaging_state": {"n_averaged": torch.tensor(3)}}, "counter"),
        ({"optim": {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(3)}}}}, OPTIMIZER),
        ({"torch_rng_state": torch.ones(9, dtype=torch.uint8)}, "random state"),
        ({"cuda_rng_state": [torch.ones(9, dtype=torch.uint8)]}, "random state"),
        ({"val_losses": [torch.tensor(1.0)]}, "single number"),
        ({"last_linear.weight": torch.ones(3, 512)}, "classifier"),
        ({"segmentation_head.0.weight": torch.ones(3, 16, 3, 3)}, "classifier"),
        ({"fpn.inner_blocks.0.0.weight": torch.ones(3, 3)}, "detector heads"),
        ({"rpn.head.conv.weight": torch.ones(3, 3)}, "projector"),
    ],
)  # fmt: skip
def test_what_stands_beside_a_network_has_a_reason(beside: dict[str, Any], reason: str, resnet18: nn.Module):
    found = _recognise({"model": backbone_state(resnet18), **beside})
    names = flatten(beside, Path("a.pth")).tensors
    assert all(name in found.dropped[reason] for name in names)
    assert len(found.state) == 100


def test_an_average_and_what_it_was_taken_of(resnet18: nn.Module):
    state = prefixed("model.", backbone_state(resnet18))
    content = {"state_dict": state, "current_model_state": noisy(state),
               "averaging_state": {"n_averaged": torch.ones(())}, "pytorch-lightning_version": "2.6"}  # fmt: skip
    found = _recognise(content)
    assert torch.equal(found.state["conv1.weight"], state["model.conv1.weight"])
    assert "network before averaging" in found.dropped
    current = _recognise(content, network="student", prefix="current_model_state.model")
    assert torch.equal(current.state["conv1.weight"], content["current_model_state"]["model.conv1.weight"])


@pytest.mark.parametrize(("kind", "key"), [("teacher", "teacher"), ("student", "student"), ("ema", "model_ema")])
def test_network_chooses(kind: str, key: str, resnet18: nn.Module):
    states = {name: {n: t + i for n, t in backbone_state(resnet18).items()} for i, name in
              enumerate(("teacher", "student", "model_ema"))}  # fmt: skip
    found = _recognise(states, network=kind)
    assert torch.equal(found.state["conv1.weight"], states[key]["conv1.weight"])


def test_network_that_is_not_there(resnet18: nn.Module):
    with pytest.raises(UserError, match=r"--network ema: no prefix.*model\."):
        _recognise({"model": backbone_state(resnet18)}, network="ema")


def test_drop_is_repeated_in_report_and_provenance(resnet18: nn.Module, tmp_path: Path):
    state = prefixed("encoder.", backbone_state(resnet18)) | {
        "out.weight": torch.ones(3, 512),
        "out.bias": torch.ones(3),
    }
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"2 tensors.*out\.weight.*--drop 'out'"):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "out.pth", verify=False)
    for pattern in ("out", "out.*"):
        report = convert_checkpoint(tmp_path / "a.pth", tmp_path / "out.pth", verify=False, drop=[pattern])
        assert report.dropped[f"left out by --drop {pattern}"] == ["out.weight", "out.bias"]
        assert torch.load(tmp_path / "out.pth")["provenance"]["left_out_by_hand"] == [pattern]


def test_drop_takes_nothing_of_the_backbone_and_nothing_that_is_not_there(resnet18: nn.Module):
    state = prefixed("encoder.", backbone_state(resnet18))
    with pytest.raises(UserError, match="backbone itself"):
        _recognise(state, drop=["encoder.layer4"])
    with pytest.raises(UserError, match="no tensor"):
        _recognise(state, drop=["output"])
    # Inside the network a further tensor makes another network of it: a scale of quantised weights, say.
    with pytest.raises(UserError, match="1 tensors") as caught:
        _recognise(state | {"encoder.conv1.weight_scale": torch.tensor(2.0)})
    assert "--drop" not in str(caught.value)
