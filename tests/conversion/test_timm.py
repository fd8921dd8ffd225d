"""timm's networks through the converter: recognised, proved on the detector's own backbone, contradicted, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from detectron2.modeling import build_backbone
from safetensors.torch import save_file
from torch import Tensor, nn

from clop_det.backbones import BACKBONES
from clop_det.checkpoints.loading import quiet_loading
from clop_det.checkpoints.reading import read_provenance
from clop_det.conversion.compatibility import apply_weights_provenance
from clop_det.conversion.convert import convert_checkpoint
from clop_det.conversion.export import export_checkpoint
from clop_det.conversion.loading import DetectorCheckpointer
from clop_det.conversion.proof import target_config
from clop_det.errors import UserError
from tests.conversion.timm_samples import random_timm, saved

FAMILY = BACKBONES["timm"]
VIT = "timm:test_vit"


@pytest.mark.parametrize(
    ("name", "options", "arch", "stages"),
    [
        ("test_convnext", {}, "timm:test_convnext", 4),
        ("test_vit", {}, VIT, 6),
        ("test_vit", {"patch_size": 8, "img_size": 64}, f"{VIT}:img_size=64:patch_size=8", 6),
        ("test_vit", {"global_pool": "avg"}, f"{VIT}:global_pool=avg", 6),
        ("resnet18d", {}, "timm:resnet18d", 4),
    ],
)
def test_a_file_is_recognised_and_proved(
    name: str, options: dict[str, Any], arch: str, stages: int, tmp_path: Path
) -> None:
    source = saved(random_timm(name, **options), tmp_path / "source.pth")
    report = convert_checkpoint(source, tmp_path / "d2.pth")
    assert (report.source, report.family, report.arch) == ("timm", "timm", arch)
    assert [len(errors) for errors in report.parity.values()] == [stages]
    assert report.worst_error < 1e-5
    assert report.dropped.get("classifier")
    assert read_provenance(tmp_path / "d2.pth")["arch"] == arch
    cfg = target_config("SFP" if stages == 6 else "FPN", read_provenance(tmp_path / "d2.pth"))
    assert arch == cfg.MODEL.TIMM.ARCH


def test_what_shapes_do_not_show_is_said(tmp_path: Path) -> None:
    """As MoCo v3's ViT-S, which has 12 heads where all others of its shape have 6."""
    network = timm.create_model("vit_tiny_patch16_224", num_heads=12, num_classes=0)
    source = tmp_path / "moco.pth"
    state = {f"module.momentum_encoder.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"arch": "vit_tiny", "state_dict": state}, source)
    guessed = convert_checkpoint(source, tmp_path / "guessed.pth", verify=False)
    assert guessed.arch == "timm:vit_tiny_patch16_224"
    assert any("does not name its network" in warning for warning in guessed.warnings)
    arch = "timm:vit_tiny_patch16_224:num_heads=12"
    said = convert_checkpoint(source, tmp_path / "said.pth", arch=arch, verify=False)
    assert not any("does not name its network" in warning for warning in said.warnings)
    images = torch.rand(1, 3, 224, 224)
    made: Any = FAMILY.build(arch).eval()
    loaded = torch.load(tmp_path / "said.pth")["model"]
    made.load_state_dict({name: torch.as_tensor(loaded[f"timm.{name}"]) for name in made.state_dict()})
    assert torch.allclose(made(images), network.eval()(images), rtol=1e-4, atol=1e-5)


def test_a_network_as_initialised_is_proved_once_more_with_random_scales(tmp_path: Path) -> None:
    source = saved(timm.create_model("test_convnext", pretrained=False), tmp_path / "source.pth")
    report = convert_checkpoint(source, tmp_path / "d2.pth")
    assert list(report.parity) == ["FPN", "FPN (stirred)"]


def test_the_way_back_is_bit_for_bit(tmp_path: Path) -> None:
    network = random_timm("test_vit")
    convert_checkpoint(saved(network, tmp_path / "source.pth"), tmp_path / "d2.pth")
    report = export_checkpoint(tmp_path / "d2.pth", tmp_path / "back.pth", naming="timm")
    back = torch.load(tmp_path / "back.pth")["state_dict"]
    assert report.worst_error < 1e-5
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in back.items())


def test_a_folder_of_the_hub_says_which_network_and_how_images_were_fed(tmp_path: Path) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    name = "seresnet18"
    network = random_timm(name)
    save_file({n: t.contiguous() for n, t in network.state_dict().items()}, str(folder / "model.safetensors"))
    config = {"architecture": name, "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}
    (folder / "config.json").write_text(json.dumps(config))
    report = convert_checkpoint(folder, tmp_path / "d2.pth", verify=False)
    assert report.arch == f"timm:{name}"
    assert read_provenance(tmp_path / "d2.pth")["pixel_mean"] == [127.5, 127.5, 127.5]


@pytest.mark.parametrize(
    ("options", "arch", "beside", "message"),
    [
        ({"patch_size": 8}, VIT, {}, r"is a timm:test_vit:.*patch_size=8, not a timm:test_vit"),
        ({"class_token": False, "global_pool": "avg"}, VIT, {}, r"class_token=False"),
        ({"reg_tokens": 2}, VIT, {}, r"reg_token"),
        ({"qkv_bias": False}, VIT, {}, r"blocks.0.attn.qkv.bias \(missing\)"),
        (
            {},
            None,
            {"arch": "vit_tiny_patch16_224"},
            r"says arch = vit_tiny_patch16_224, but its tensors are.*test_vit",
        ),
        ({}, "resnet50", {}, "no residual network"),
    ],
)
def test_a_contradiction_is_refused(
    options: dict[str, Any], arch: str | None, beside: dict[str, str], message: str, tmp_path: Path
) -> None:
    source = saved(random_timm("test_vit", **options), tmp_path / "source.pth", **beside)
    with pytest.raises(UserError, match=message):
        convert_checkpoint(source, tmp_path / "d2.pth", arch=arch)
    assert not (tmp_path / "d2.pth").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("MODEL.TIMM.ARCH", VIT), r"MODEL\.TIMM\.ARCH.*timm:test_vit.*timm:test_convnext"),
        (("INPUT.FORMAT", "RGB"), r"INPUT\.FORMAT.*RGB.*BGR"),
        (("MODEL.PIXEL_MEAN", [1.0, 2.0, 3.0]), r"MODEL\.PIXEL_MEAN.*100"),
        (("MODEL.PIXEL_STD", [1.0, 2.0, 3.0]), r"MODEL\.PIXEL_STD.*50"),
    ],
)
def test_a_detector_that_contradicts_its_weights_is_refused(
    options: tuple[Any, ...], message: str, tmp_path: Path
) -> None:
    source = saved(random_timm("test_convnext"), tmp_path / "source.pth")
    fed: dict[str, Any] = {"channel_order": "BGR", "pixel_mean": [100.0] * 3, "pixel_std": [50.0] * 3}
    convert_checkpoint(source, tmp_path / "d2.pth", verify=False, **fed)
    cfg = FAMILY.target_config("FPN")
    own = ["MODEL.TIMM.ARCH", "timm:test_convnext", "MODEL.WEIGHTS", str(tmp_path / "d2.pth")]
    cfg.merge_from_list(own)
    assert apply_weights_provenance(cfg.clone())
    cfg.merge_from_list(list(options))
    with pytest.raises(UserError, match=message):
        apply_weights_provenance(cfg)


def test_a_network_that_no_detector_carries_is_refused(tmp_path: Path) -> None:
    source = saved(random_timm("mixer_s32_224"), tmp_path / "source.pth", arch="mixer_s32_224")
    with pytest.raises(UserError, match="no detector carries timm:mixer_s32_224|no residual network"):
        convert_checkpoint(source, tmp_path / "d2.pth", arch="timm:mixer_s32_224")


class Loaded(nn.Module):
    def __init__(self, arch: str) -> None:
        super().__init__()
        cfg = FAMILY.target_config("FPN")
        cfg.MODEL.TIMM.ARCH = arch
        self.backbone = build_backbone(cfg)


def test_weights_that_never_reach_the_network_are_an_error(tmp_path: Path) -> None:
    """Published: a constructor with pretrained=False, after which a loader that passes over everything left it so."""
    state: dict[str, Tensor] = {"head.weight": torch.zeros(3, 64)}
    torch.save({"model": state, "matching_heuristics": True}, tmp_path / "other.pth")
    with quiet_loading(), pytest.raises(UserError, match="gives 0 of 99 backbone tensors"):
        DetectorCheckpointer(Loaded("timm:test_convnext")).load(str(tmp_path / "other.pth"))


def test_a_prefix_that_strict_false_would_pass_over_is_an_error(tmp_path: Path) -> None:
    """Published: strict=False and names with another prefix, so that nothing was loaded and nothing was said."""
    state = {f"student.{name}": tensor for name, tensor in random_timm("test_convnext").state_dict().items()}
    model = Loaded("timm:test_convnext")
    assert not set(model.load_state_dict(state, strict=False).missing_keys) - set(model.state_dict())
    torch.save({"model": state}, tmp_path / "prefixed.pth")
    with quiet_loading(), pytest.raises(UserError, match="backbone tensors; missing"):
        DetectorCheckpointer(model).load(str(tmp_path / "prefixed.pth"))
    report = convert_checkpoint(tmp_path / "prefixed.pth", tmp_path / "d2.pth", verify=False)
    assert (report.arch, report.mapped) == ("timm:test_convnext", 99)
