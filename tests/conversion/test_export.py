from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from timm.models import load_checkpoint
from torch import nn

from clop_det.backbones import BACKBONES
from clop_det.checkpoints.integrity import why_damaged
from clop_det.checkpoints.reading import read_provenance
from clop_det.commands.convert import main
from clop_det.conversion.convert import convert_checkpoint
from clop_det.conversion.export import export_checkpoint
from clop_det.conversion.proof import target_config
from clop_det.errors import UserError
from tests.conversion.samples import write_sample


def _names(network: nn.Module) -> set[str]:
    return {name for name in network.state_dict() if not name.startswith("fc.") and "num_batches" not in name}


def test_round_trip_is_bit_exact(converted_file: Path, resnet18: nn.Module, tmp_path: Path):
    report = export_checkpoint(converted_file, tmp_path / "back.pth")
    assert report.worst_error < 1e-5
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert back.keys() == _names(resnet18)
    assert all(torch.equal(tensor, resnet18.state_dict()[name]) for name, tensor in back.items())
    assert why_damaged(tmp_path / "back.pth") is None
    # And once more forward: the same tensors as at first.
    convert_checkpoint(tmp_path / "back.pth", tmp_path / "again.pth", verify=False)
    first, again = (torch.load(path, weights_only=True)["model"] for path in (converted_file, tmp_path / "again.pth"))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_torchvision_loads_it(converted_file: Path, resnet18: nn.Module, tmp_path: Path):
    export_checkpoint(converted_file, tmp_path / "back.pth", verify=False)
    network = torchvision.models.resnet18(weights=None)
    network.fc = nn.Identity()
    network.load_state_dict(torch.load(tmp_path / "back.pth", weights_only=True))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        reference = nn.Sequential(*list(resnet18.children())[:-1])(images).flatten(1)
        torch.testing.assert_close(network.eval()(images), reference, rtol=0, atol=0)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_timm_loads_it(ending: str, converted_file: Path, resnet18: nn.Module, tmp_path: Path):
    path = tmp_path / f"back{ending}"
    export_checkpoint(converted_file, path, naming="timm", verify=False)
    network = timm.create_model("resnet18", pretrained=False, num_classes=0)
    load_checkpoint(network, str(path))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        reference = nn.Sequential(*list(resnet18.children())[:-1])(images).flatten(1)
        torch.testing.assert_close(network.eval()(images), reference)


def test_safetensors_carries_the_provenance_there_and_back(resnet18: nn.Module, tmp_path: Path):
    convert_checkpoint(write_sample("clop_det", resnet18, tmp_path), tmp_path / "d2.pth", verify=False)
    report = export_checkpoint(tmp_path / "d2.pth", tmp_path / "back.safetensors")
    assert report.worst_error < 1e-5
    assert load_file(str(tmp_path / "back.safetensors")).keys() == _names(resnet18)
    record = read_provenance(tmp_path / "back.safetensors")
    assert (record["loss"], record["arch"], record["exported_from"]) == ("clop", "resnet18", "d2.pth")
    convert_checkpoint(tmp_path / "back.safetensors", tmp_path / "again.pth", verify=False)
    again = read_provenance(tmp_path / "again.pth")
    assert (again["loss"], again["label_fraction"], again["seed"], again["conventions_known"]) == ("clop", 0.1, 3, True)


def test_a_detectors_checkpoint_with_the_last_stage_in_its_head(resnet50: nn.Module, tmp_path: Path):
    torch.save(resnet50.state_dict(), tmp_path / "in.pth")
    convert_checkpoint(tmp_path / "in.pth", tmp_path / "d2.pth", verify=False)
    content = torch.load(tmp_path / "d2.pth", weights_only=True)
    detector = BACKBONES["residual"].target_network(target_config("C4", content["provenance"]))
    own = {
        name: content["model"].get(name.split("backbone.")[-1].split("roi_heads.")[-1], tensor)
        for name, tensor in detector.state_dict().items()
    }
    torch.save({"model": own, "iteration": 9}, tmp_path / "detector.pth")
    report = export_checkpoint(tmp_path / "detector.pth", tmp_path / "back.pth")
    assert set(report.parity) == {"FPN", "C4"}
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert all(torch.equal(tensor, resnet50.state_dict()[name]) for name, tensor in back.items())
    assert back.keys() == _names(resnet50)


def test_caffe_strides_have_no_way_back(resnet50: nn.Module, tmp_path: Path):
    torch.save(resnet50.state_dict(), tmp_path / "in.pth")
    convert_checkpoint(tmp_path / "in.pth", tmp_path / "d2.pth", verify=False, stride_in_1x1=True)
    with pytest.raises(UserError, match="no way back"):
        export_checkpoint(tmp_path / "d2.pth", tmp_path / "back.pth")
    assert not (tmp_path / "back.pth").exists()


def test_bad_requests(converted_file: Path, torchvision_file: Path, tmp_path: Path):
    with pytest.raises(UserError, match="does not look like detectron2"):
        export_checkpoint(torchvision_file, tmp_path / "back.pth")
    with pytest.raises(UserError, match=r"\.safetensors"):
        export_checkpoint(converted_file, tmp_path / "back.bin")
    with pytest.raises(UserError, match="--to 'jax'"):
        export_checkpoint(converted_file, tmp_path / "back.pth", naming="jax")
    with pytest.raises(UserError, match="not a resnet50"):
        export_checkpoint(converted_file, tmp_path / "back.pth", arch="resnet50")
    with pytest.raises(UserError, match="--channel-order"):
        main([str(converted_file), str(tmp_path / "back.pth"), "--to", "timm", "--channel-order", "RGB"])


def test_command(converted_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(converted_file), str(tmp_path / "back.safetensors"), "--to", "timm"]) == 0
    assert "100 mapped" in capsys.readouterr().out
