from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from detectron2.checkpoint import DetectionCheckpointer
from safetensors.torch import save_file
from torch import nn

from clop_det.backbones import BACKBONES
from clop_det.checkpoints.integrity import sidecar_of, why_damaged
from clop_det.checkpoints.reading import read_provenance
from clop_det.commands.convert import main
from clop_det.conversion.convert import convert_checkpoint
from clop_det.conversion.proof import ParityError, target_config
from clop_det.errors import UserError
from clop_det.files import sha256_of
from tests.conversion.samples import SAMPLES, backbone_state, prefixed, random_network, write_sample

RESIDUAL = BACKBONES["residual"]
detectron2_name = RESIDUAL.detectron2_name


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def test_torchvision_to_detectron2_proved(torchvision_file: Path, resnet18: nn.Module, tmp_path: Path):
    report = convert_checkpoint(torchvision_file, tmp_path / "out.pth")
    assert (report.source, report.arch, report.stem, report.mapped) == ("torchvision", "resnet18", "imagenet", 100)
    assert {reason: len(names) for reason, names in report.dropped.items()} == {"counter": 20, "classifier": 2}
    assert report.worst_error < 1e-5
    content = _read(tmp_path / "out.pth")
    assert content["matching_heuristics"] is True
    state = resnet18.state_dict()
    assert all(
        torch.equal(content["model"][detectron2_name(name)], tensor)
        for name, tensor in state.items()
        if not name.startswith("fc.") and "num_batches" not in name
    )
    assert _files(tmp_path) == ["out.pth", "out.pth.sha256"]
    assert why_damaged(tmp_path / "out.pth") is None
    assert report.sha256 == sha256_of(tmp_path / "out.pth")


def test_stock_detectron2_loads_every_tensor_of_the_file(converted_file: Path):
    assert _loaded_by_stock_detectron2(converted_file) == 100


def _loaded_by_stock_detectron2(path: Path) -> int:
    detector = RESIDUAL.target_network(target_config("FPN", read_provenance(path)))
    for tensor in detector.state_dict().values():
        if tensor.is_floating_point():
            tensor.fill_(float("nan"))
    DetectionCheckpointer(detector).load(str(path))
    state = detector.backbone.bottom_up.state_dict()
    return sum(not bool(tensor.isnan().any()) for tensor in state.values() if tensor.is_floating_point())


def test_as_a_pkl_of_detectron2s_model_zoo(torchvision_file: Path, tmp_path: Path):
    report = convert_checkpoint(torchvision_file, tmp_path / "out.pkl")
    assert report.worst_error < 1e-5
    with open(tmp_path / "out.pkl", "rb") as file:
        content = pickle.load(file)  # our own file
    assert {type(value).__name__ for value in content["model"].values()} == {"ndarray"}
    assert (content["__author__"], content["matching_heuristics"]) == ("clop_det", True)
    assert read_provenance(tmp_path / "out.pkl")["arch"] == "resnet18"
    assert _loaded_by_stock_detectron2(tmp_path / "out.pkl") == 100


@pytest.mark.parametrize("name", ["clop_det", "MoCo v2", "lightly", "SupContrast", "Detectron2 .pkl"])
def test_other_sources_are_proved_as_well(name: str, resnet18: nn.Module, tmp_path: Path):
    report = convert_checkpoint(write_sample(name, resnet18, tmp_path), tmp_path / "out.pth")
    assert report.source == SAMPLES[name][0]
    assert report.worst_error < 1e-5


def test_bottleneck_networks_are_proved_on_c4_too(tmp_path: Path):
    network = random_network("resnext50_32x4d")
    torch.save(network.state_dict(), tmp_path / "in.pth")
    report = convert_checkpoint(tmp_path / "in.pth", tmp_path / "out.pth")
    assert set(report.parity) == {"FPN", "C4"}
    assert report.worst_error < 1e-5
    record = _read(tmp_path / "out.pth")["provenance"]
    assert [record[key] for key in ("depth", "num_groups", "width_per_group", "res2_out_channels")] == [50, 32, 4, 256]


def test_an_untrained_network_is_proved_with_stirred_statistics_too(tmp_path: Path):
    torch.save(torchvision.models.resnet18(weights=None, zero_init_residual=True).state_dict(), tmp_path / "in.pth")
    report = convert_checkpoint(tmp_path / "in.pth", tmp_path / "out.pth")
    assert set(report.parity) == {"FPN", "FPN (stirred BN)"}
    assert report.worst_error < 1e-5


def test_half_precision_and_shared_storage(resnet18: nn.Module, tmp_path: Path):
    flat = torch.zeros(10_000_000)
    state = {}
    for name, tensor in backbone_state(resnet18).items():
        state[name] = tensor.half() if tensor.is_floating_point() else tensor
    flat[: 64 * 3 * 49] = state["conv1.weight"].float().flatten()
    state["conv1.weight"] = flat[: 64 * 3 * 49].view(64, 3, 7, 7)
    torch.save(state, tmp_path / "in.pth")
    report = convert_checkpoint(tmp_path / "in.pth", tmp_path / "out.pth")
    assert report.worst_error < 1e-5
    assert (tmp_path / "out.pth").stat().st_size < 30e6, "the whole shared storage went into the file"


def test_provenance_of_our_own_run_goes_along(resnet18: nn.Module, tmp_path: Path):
    source = write_sample("clop_det", resnet18, tmp_path)
    convert_checkpoint(source, tmp_path / "out.pth", verify=False)
    record = _read(tmp_path / "out.pth")["provenance"]
    assert (record["loss"], record["label_fraction"], record["seed"]) == ("clop", 0.1, 3)
    assert (record["source_format"], record["source_sha256"]) == ("clop_det", sha256_of(source))
    assert (record["channel_order"], record["stride_in_1x1"], record["stem"]) == ("RGB", False, "imagenet")
    assert (record["arch"], record["depth"], record["res2_out_channels"]) == ("resnet18", 18, 64)
    assert record["pixel_mean"] == [123.675, 116.28, 103.53]
    assert record["verified"] is False
    assert record["conventions_known"] is True
    assert "torch" in record["converter"]
    assert json.loads(json.dumps(record)) == record


def test_assumed_conventions_are_said_to_be_assumed(torchvision_file: Path, tmp_path: Path):
    report = convert_checkpoint(torchvision_file, tmp_path / "out.pth", verify=False)
    assert any("does not say how its images were fed" in warning for warning in report.warnings)
    assert any("--no-verify" in warning for warning in report.warnings)
    assert _read(tmp_path / "out.pth")["provenance"]["conventions_known"] is False


def test_given_conventions_are_proved_and_stored(torchvision_file: Path, tmp_path: Path):
    wish = {"channel_order": "BGR", "pixel_mean": [0.0, 0.0, 0.0], "pixel_std": [255.0, 255.0, 255.0]}
    report = convert_checkpoint(torchvision_file, tmp_path / "out.pth", **wish)
    assert report.worst_error < 1e-5
    record = _read(tmp_path / "out.pth")["provenance"]
    assert {key: record[key] for key in wish} == wish


def test_caffe_strides(resnet50: nn.Module, tmp_path: Path):
    torch.save(backbone_state(resnet50), tmp_path / "in.pth")
    report = convert_checkpoint(tmp_path / "in.pth", tmp_path / "out.pth", stride_in_1x1=True)
    assert report.worst_error < 1e-5
    assert _read(tmp_path / "out.pth")["provenance"]["stride_in_1x1"] is True


def test_conventions_that_contradict_the_files_own_word(resnet18: nn.Module, tmp_path: Path):
    source = write_sample("clop_det", resnet18, tmp_path)
    with pytest.raises(UserError, match=r"channel_order = RGB .*BGR"):
        convert_checkpoint(source, tmp_path / "out.pth", channel_order="BGR")
    with pytest.raises(UserError, match=r"pixel_mean"):
        convert_checkpoint(source, tmp_path / "out.pth", pixel_mean=[0.0, 0.0, 0.0])


def test_cifar_stem_is_refused_unless_allowed(tmp_path: Path):
    torch.save(random_network("resnet18", stem="cifar").state_dict(), tmp_path / "in.pth")
    with pytest.raises(UserError, match="--allow-stem-reinit"):
        convert_checkpoint(tmp_path / "in.pth", tmp_path / "out.pth")
    assert _files(tmp_path) == ["in.pth"]
    report = convert_checkpoint(tmp_path / "in.pth", tmp_path / "out.pth", allow_stem_reinit=True)
    assert report.mapped == 95
    assert report.worst_error < 1e-5
    assert any("stem was left out" in warning for warning in report.warnings)
    content = _read(tmp_path / "out.pth")
    assert content["provenance"]["stem_reinitialised"] is True
    assert not any(name.startswith("stem.") for name in content["model"])


def test_wrong_depth(torchvision_file: Path, resnet18: nn.Module, tmp_path: Path):
    with pytest.raises(UserError, match=r"is a resnet18, not a resnet50"):
        convert_checkpoint(torchvision_file, tmp_path / "out.pth", arch="resnet50")
    content = SAMPLES["clop_det"][2](resnet18, 512)
    content["provenance"]["arch"] = "resnet34"
    torch.save(content, tmp_path / "in.pth")
    with pytest.raises(UserError, match=r"is a resnet18, not a resnet34"):
        convert_checkpoint(tmp_path / "in.pth", tmp_path / "out.pth")


def _break(path: Path, how: str, state: dict[str, torch.Tensor]) -> None:
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
    elif how == "flipped byte":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif how == "empty state dict":
        torch.save({"state_dict": {}}, path)
    elif how == "missing tensor":
        torch.save({name: tensor for name, tensor in state.items() if name != "layer2.1.bn2.running_mean"}, path)
    elif how == "no statistics":
        torch.save({name: tensor for name, tensor in state.items() if "running" not in name}, path)
    elif how == "not a number":
        torch.save(state | {"layer2.1.bn2.running_mean": torch.full((128,), float("nan"))}, path)
    elif how == "two projects in one":
        torch.save(prefixed("a.", state) | prefixed("b.", {k: v + 1 for k, v in state.items()}), path)


@pytest.mark.parametrize(
    "how",
    ["truncated", "flipped byte", "empty state dict", "missing tensor", "no statistics", "not a number",
     "two projects in one"],
)  # fmt: skip
def test_bad_files_leave_nothing_behind_and_an_old_output_alone(how: str, resnet18: nn.Module, tmp_path: Path):
    source, output = tmp_path / "in.pth", tmp_path / "out.pth"
    torch.save(backbone_state(resnet18), source)
    output.write_bytes(b"old")
    _break(source, how, backbone_state(resnet18))
    with pytest.raises(UserError, match=r"in\.pth"):
        convert_checkpoint(source, output)
    assert output.read_bytes() == b"old"
    assert _files(tmp_path) == ["in.pth", "out.pth"]


def test_a_failed_proof_leaves_no_file(torchvision_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def wrong(name: str) -> str:
        return detectron2_name(name).replace("res4.0.conv1.weight", "res4.0.conv9.weight")

    monkeypatch.setattr(RESIDUAL, "detectron2_name", wrong)
    with pytest.raises(UserError, match=r"res4\.0\.conv1\.weight"):
        convert_checkpoint(torchvision_file, tmp_path / "out.pth")

    def swapped(name: str) -> str:  # same shapes, so only the values show it
        exchange = {"conv1.norm.weight": "conv1.norm.bias", "conv1.norm.bias": "conv1.norm.weight"}
        found = detectron2_name(name)
        return next((found.replace(a, b) for a, b in exchange.items() if found.endswith("res3.1." + a)), found)

    monkeypatch.setattr(RESIDUAL, "detectron2_name", swapped)
    with pytest.raises(ParityError, match=r"res3\.1\.conv1\.norm"):
        convert_checkpoint(torchvision_file, tmp_path / "out.pth")
    assert _files(tmp_path) == []


def test_output_must_be_another_pth_file(torchvision_file: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"must end in \.pth"):
        convert_checkpoint(torchvision_file, tmp_path / "out.bin")
    with pytest.raises(UserError, match="the source itself"):
        convert_checkpoint(torchvision_file, torchvision_file)
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        convert_checkpoint(torchvision_file, tmp_path / "folder.pth")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        convert_checkpoint(torchvision_file, tmp_path / "file" / "out.pth", verify=False)


def test_safetensors_with_another_sidecar_is_refused(resnet18: nn.Module, tmp_path: Path):
    path = tmp_path / "in.safetensors"
    save_file(backbone_state(resnet18), str(path))
    sidecar_of(path).write_text("0" * 64 + "  in.safetensors\n")
    with pytest.raises(UserError, match="SHA-256"):
        convert_checkpoint(path, tmp_path / "out.pth")


def test_command_prints_the_report(torchvision_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(torchvision_file), str(tmp_path / "out.pth"), "--arch", "resnet18"]) == 0
    printed = capsys.readouterr().out
    for words in (
        "source   torchvision",
        "resnet18, imagenet stem",
        "100 mapped",
        "20 counter",
        "FPN",
        "res5",
        "out.pth",
    ):
        assert words in printed


def test_command_as_json(torchvision_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main([str(torchvision_file), str(tmp_path / "out.pth"), "--no-verify", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["tensors_mapped"], report["tensors_dropped"]["classifier"], report["parity"]) == (100, 2, {})
