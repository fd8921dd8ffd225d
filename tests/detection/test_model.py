from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone
from detectron2.utils.events import EventStorage
from torch import nn

from clop_det.config.reading import read_config
from clop_det.detection.loader import train_loader, training_records
from clop_det.detection.model import build_detector, check_model, pooled_features
from clop_det.detection.roi_align import SmallMapROIAlign
from clop_det.errors import UserError
from tests.detection.runs import CONFIG


def test_initial_weights_follow_the_seed_and_nothing_else(tiny_cfg: CfgNode) -> None:
    first = build_detector(tiny_cfg)
    torch.rand(5)
    again = build_detector(tiny_cfg)
    tiny_cfg.SEED = 1
    other = build_detector(tiny_cfg)
    key = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(first.state_dict()[key], again.state_dict()[key])
    assert not torch.equal(first.state_dict()[key], other.state_dict()[key])


def test_under_bf16_the_losses_are_fp32_and_close_to_the_exact_ones(tiny_cfg: CfgNode) -> None:
    model = build_detector(tiny_cfg)
    batch = next(iter(train_loader(tiny_cfg, training_records(tiny_cfg), 0, 0, 1)))
    losses = []
    for bf16 in (False, True):
        torch.manual_seed(0)
        with EventStorage(0), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses.append(model(batch))
    for name, exact in losses[0].items():
        assert losses[1][name].dtype == torch.float32, name
        assert losses[1][name].item() == pytest.approx(exact.item(), rel=0.1, abs=0.02), name


def test_last_layers_give_fp32_under_autocast(tiny_cfg: CfgNode) -> None:
    predictor = build_detector(tiny_cfg).roi_heads.box_predictor
    with torch.autocast("cpu", torch.bfloat16):
        scores, deltas = predictor(torch.randn(4, 16))
        assert nn.functional.linear(torch.randn(4, 16), torch.randn(2, 16)).dtype == torch.bfloat16
    assert scores.dtype == deltas.dtype == torch.float32


@pytest.mark.parametrize(("setting", "expected"), [("auto", True), ("matmul", True), ("torchvision", False)])
def test_roi_align_is_a_setting(tiny_cfg: CfgNode, setting: str, expected: bool) -> None:
    tiny_cfg.MODEL.ROI_ALIGN = setting
    model = build_detector(tiny_cfg)
    assert any(isinstance(module, SmallMapROIAlign) for module in model.modules()) is expected


def test_features_are_the_pooled_last_stage(tiny_cfg: CfgNode) -> None:
    model = build_detector(tiny_cfg).eval()
    images = torch.randn(2, 3, 64, 64)
    expected = model.backbone.bottom_up(images)["res5"].mean((2, 3))
    assert torch.allclose(pooled_features(model, images), expected)


@pytest.mark.parametrize("extra_norm", [False, True])
def test_c4_features_are_those_of_the_whole_residual_network(extra_norm: bool) -> None:
    cfg = read_config("", ["MODEL.DEVICE", "cpu", "MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0"])
    cfg.defrost()
    cfg.SEED = 0
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.ROI_HEADS.NAME = "Res5ROIHeadsExtraNorm" if extra_norm else "Res5ROIHeads"
    model = build_detector(cfg).eval()
    whole = cfg.clone()
    whole.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    network = build_backbone(whole).eval()
    state = {k.removeprefix("backbone."): v for k, v in model.state_dict().items() if k.startswith("backbone.")}
    state |= {k.removeprefix("roi_heads."): v for k, v in model.state_dict().items() if k.startswith("roi_heads.res5.")}
    network.load_state_dict({k: v for k, v in state.items() if ".norm." not in k or not k.startswith("res5.norm")})
    images = torch.randn(1, 3, 64, 64)
    expected = network(images)["res5"].mean((2, 3))
    assert torch.allclose(pooled_features(model, images), expected, atol=1e-4)
    assert ("roi_heads.res5.norm.weight" in model.state_dict()) is extra_norm


def test_a_shallow_c4_is_refused(tiny_cfg: CfgNode) -> None:
    tiny_cfg.MODEL.ROI_HEADS.NAME = "Res5ROIHeadsExtraNorm"
    with pytest.raises(UserError, match="mixture"):
        check_model(tiny_cfg)


@pytest.mark.parametrize("depth", [18, 34])
def test_a_shallow_retinanet_has_no_roi_head_to_refuse(depth: int) -> None:
    path = str(Path(CONFIG).parent / "coco" / "retinanet_R_50_FPN_coco_1x.yaml")
    words = f"MODEL.DEVICE cpu MODEL.RESNETS.DEPTH {depth} MODEL.RESNETS.RES2_OUT_CHANNELS 64".split()
    check_model(read_config(path, words))


def test_a_config_that_cannot_be_built_is_a_user_error() -> None:
    cfg = read_config(
        CONFIG, ["MODEL.DEVICE", "cpu", "MODEL.RESNETS.RES2_OUT_CHANNELS", "256", "MODEL.RESNETS.DEPTH", "34"]
    )
    with pytest.raises(UserError, match="RES2_OUT_CHANNELS"):
        build_detector(cfg)
