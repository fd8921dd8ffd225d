"""What a file says of itself: which network it is, and how its images were fed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from clop_det.backbones import BACKBONES
from clop_det.conversion.convert import ConversionReport, convert_checkpoint
from clop_det.conversion.statements import Statements, statements_of
from clop_det.errors import UserError
from tests.conversion.samples import SAMPLES

NORMALIZE = ("normalize.mean", "normalize.std")
ZERO_ONE = (("mean", torch.zeros(3)), ("std", torch.ones(3)))
HALF = torch.full((3, 1, 1), 0.5)


def _record(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = torch.load(path, weights_only=True)["provenance"]
    return record


def _convert(content: Any, folder: Path, **wish: Any) -> tuple[ConversionReport, dict[str, Any]]:
    torch.save(content, folder / "a.pth")
    (folder / "a.pth.sha256").unlink(missing_ok=True)  # of an earlier content
    report = convert_checkpoint(folder / "a.pth", folder / "out.pth", verify=False, **wish)
    return report, _record(folder / "out.pth")


def _contradiction(arch: str, facts: dict[str, Any]) -> str:
    family = BACKBONES["residual"]
    architecture = family.find(arch)
    assert architecture is not None
    return family.contradiction(architecture, facts)


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ("resnet50", {"arch": "resnet50"}),
        ("resnet50", {"arch": "tv_resnet50", "args.model": "resnet50.a1_in1k"}),
        ("resnet50", {"hyper_parameters.backbone.name": "ResNet-50"}),
        ("resnet50", {"arch": "simclr_resnet50_imagenet"}),
        ("resnet50", {"arch": "resnet"}),  # no size: nothing is said
        ("resnet50", {"arch": "moco", "args.model": "vit_small"}),  # the name of a method, or of no residual network
        ("resnet50", {"hyper_parameters.teacher.model": "resnet101"}),  # of another network
        ("resnext50_32x4d", {"args.model": "resnext50_32x4d"}),
        ("wide_resnet50_2", {"args.arch": "wide_resnet50_2"}),
        ("resnet18", {"config.json._name_or_path": "x", "config.json.hidden_act": "relu"}),
        ("resnet18", {"args.replace_stride_with_dilation": [False, False, False], "args.output_stride": 32}),
    ],
)
def test_words_that_do_not_contradict(arch: str, said: dict[str, Any]):
    assert _contradiction(arch, said) == ""


@pytest.mark.parametrize(
    ("arch", "said"),
    [
        ("resnet50", {"arch": "resnetblur50"}),
        ("resnet50", {"args.model": "resnetaa50"}),
        ("resnet50", {"hyper_parameters.model_name": "seresnet50"}),
        ("resnet50", {"arch": "antialiased_resnet50"}),
        ("resnet50", {"arch": "resnet50_dilated8"}),
        ("resnet50", {"arch": "resnet101"}),
        ("resnet50", {"arch": "wide_resnet50_2"}),
        ("resnext50_32x4d", {"arch": "resnext50_64x4d"}),
        ("resnet50", {"args.output_stride": 8}),
        ("resnet50", {"args.replace_stride_with_dilation": [False, False, True]}),
        ("resnet50", {"model_kwargs.aa_layer": "blurpool"}),
        ("resnet18", {"config.json.hidden_act": "gelu"}),
    ],
)
def test_words_that_contradict(arch: str, said: dict[str, Any]):
    assert str(next(iter(said.values()))) in _contradiction(arch, said)


def test_a_network_that_the_file_calls_something_else_is_refused(resnet18: nn.Module, tmp_path: Path):
    content = {"arch": "resnetblur18", "version": 2, "state_dict": resnet18.state_dict()}
    with pytest.raises(UserError, match=r"arch = resnetblur18.*resnet18.*--arch resnet18"):
        _convert(content, tmp_path)
    assert not (tmp_path / "out.pth").exists()
    _convert(content, tmp_path, arch="resnet18")  # someone knows better, and says so
    content = {"args": argparse.Namespace(model="resnetaa18"), "state_dict": resnet18.state_dict()}
    with pytest.raises(UserError, match=r"args\.model = resnetaa18"):
        _convert(content, tmp_path)


@pytest.mark.parametrize(
    ("beside", "mean", "std", "order_is_said"),
    [
        ({"normalize.mean": HALF, "normalize.std": HALF}, [127.5] * 3, [127.5] * 3, False),
        ({"normalizer.new_mean": HALF, "normalizer.new_std": HALF / 2}, [127.5] * 3, [63.75] * 3, False),
        (
            dict(zip(NORMALIZE, torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]), strict=True)),
            [123.675, 116.28, 103.53],
            [58.395, 57.12, 57.375],
            True,
        ),
        (
            {"pixel_mean": torch.tensor([103.53, 116.28, 123.675]), "pixel_std": torch.ones(3)},
            [103.53, 116.28, 123.675],
            [1.0] * 3,
            True,
        ),
        ({f"data_preprocessor.{n}": t for n, t in ZERO_ONE}, [0.0] * 3, [1.0] * 3, False),
        ({f"normalize.{name}": tensor for name, tensor in ZERO_ONE}, [0.0] * 3, [255.0] * 3, False),
    ],
)  # fmt: skip
def test_tensors_that_say_how_images_were_fed(
    beside: dict[str, Tensor], mean: list[float], std: list[float], order_is_said: bool, resnet18: nn.Module,
    tmp_path: Path,
):  # fmt: skip
    report, record = _convert({"model": resnet18.state_dict() | beside}, tmp_path)
    assert record["pixel_mean"] == pytest.approx(mean)
    assert record["pixel_std"] == pytest.approx(std)
    assert record["conventions_known"] is order_is_said
    assert record["channel_order"] == ("BGR" if mean[0] < mean[2] else "RGB")
    assert next(iter(beside)) in report.input
    assert not any("does not say how" in warning for warning in report.warnings)


def test_arguments_that_say_how_images_were_fed(resnet18: nn.Module, tmp_path: Path):
    args = argparse.Namespace(model="resnet18", mean=[0.5] * 3, std=[0.25] * 3)
    report, record = _convert({"arch": "resnet18", "state_dict": resnet18.state_dict(), "args": args}, tmp_path)
    assert (record["pixel_mean"], record["pixel_std"]) == ([127.5] * 3, [63.75] * 3)
    assert record["conventions_known"]
    with pytest.raises(UserError, match=r"127\.5.*--pixel-mean"):
        _convert({"state_dict": resnet18.state_dict(), "args": args}, tmp_path, pixel_mean=[1.0, 2.0, 3.0])
    nothing = argparse.Namespace(mean=None, std=None)  # timm's default: the model's own, which the file does not hold
    report, record = _convert({"state_dict": resnet18.state_dict(), "args": nothing}, tmp_path)
    assert not record["conventions_known"]
    assert any("does not say how" in warning for warning in report.warnings)


def test_two_words_that_differ_are_a_refusal(resnet18: nn.Module, tmp_path: Path):
    content = {
        "model": resnet18.state_dict() | {"normalize.mean": HALF, "normalize.std": HALF},
        "args": {"mean": [0.4] * 3, "std": [0.5] * 3},
    }
    with pytest.raises(UserError, match=r"differ.*args\.mean.*model\.normalize\.mean.*--drop"):
        _convert(content, tmp_path)
    _, record = _convert(content, tmp_path, drop=["model.normalize"])
    assert record["pixel_mean"] == [102.0] * 3


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([float("nan")] * 3, [0.5] * 3),
        ([0.5] * 3, [0.5, float("inf"), 0.5]),
        (["a", "b", "c"], [0.5] * 3),
        ([0.5] * 3, "abc"),
        ([0.5] * 2, [0.5] * 2),
        ([0.5] * 3, [0.5]),
        (0.5, 0.5),
        ([[0.5]] * 3, [0.5] * 3),
    ],
)
def test_words_that_are_no_mean_and_std_say_nothing(mean: Any, std: Any):
    facts = {"args.mean": mean, "args.std": std}
    assert statements_of({}, facts, BACKBONES["residual"]) == Statements()
    facts |= {"pretrained_cfg.mean": [0.5] * 3, "pretrained_cfg.std": [0.25] * 3}
    said = statements_of({}, facts, BACKBONES["residual"])
    assert (said.conventions["pixel_mean"], said.where) == ([127.5] * 3, "pretrained_cfg.mean")


@pytest.mark.parametrize(
    ("mean", "std"), [(torch.full((3,), float("nan")), HALF), (torch.full((4,), 0.5), HALF), (HALF, torch.ones(1))]
)
def test_tensors_that_are_no_mean_and_std_say_nothing(mean: Tensor, std: Tensor):
    tensors = {"normalize.mean": mean, "normalize.std": std}
    assert statements_of(tensors, {}, BACKBONES["residual"]) == Statements()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_same_words_in_half_precision_are_the_same(dtype: torch.dtype):
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    tensors = {"normalize.mean": torch.tensor(mean, dtype=dtype), "normalize.std": torch.tensor(std, dtype=dtype)}
    said = statements_of(tensors, {"args.mean": mean, "args.std": std}, BACKBONES["residual"])
    assert said.conventions["pixel_mean"] == pytest.approx([123.675, 116.28, 103.53], abs=1e-9)
    assert said.conventions["channel_order"] == "RGB"
    alone = statements_of(tensors, {}, BACKBONES["residual"])
    assert alone.conventions["pixel_std"] == pytest.approx([58.395, 57.12, 57.375], rel=0.004)
    tensors["normalize.mean"] = torch.tensor([0.5, 0.456, 0.406], dtype=dtype)
    with pytest.raises(UserError, match="differ"):
        statements_of(tensors, {"args.mean": mean, "args.std": std}, BACKBONES["residual"])


def test_files_beside_the_weights_of_a_hub(resnet18: nn.Module, tmp_path: Path):
    folder = tmp_path / "hub"
    folder.mkdir()
    state = {name: t.contiguous() for name, t in SAMPLES["transformers"][2](resnet18, 512).items()}
    save_file(state, str(folder / "model.safetensors"))
    said = {"image_mean": [0.5] * 3, "image_std": [0.2] * 3, "do_rescale": True, "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    for source in (folder, folder / "model.safetensors"):
        convert_checkpoint(source, tmp_path / "out.pth")
        record = _record(tmp_path / "out.pth")
        assert (record["pixel_mean"], record["pixel_std"]) == ([127.5] * 3, [51.0] * 3)
        assert record["conventions_known"]
    (folder / "config.json").write_text(json.dumps({"downsample_in_first_stage": True}))
    with pytest.raises(UserError, match="downsample_in_first_stage"):
        convert_checkpoint(folder, tmp_path / "out.pth")
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet18", "pretrained_cfg": {"mean": [0.1] * 3}}))
    (folder / "preprocessor_config.json").write_text(
        json.dumps(said | {"do_rescale": False, "image_mean": [100.0] * 3})
    )
    convert_checkpoint(folder, tmp_path / "out.pth", verify=False)
    assert _record(tmp_path / "out.pth")["pixel_mean"] == [100.0] * 3
