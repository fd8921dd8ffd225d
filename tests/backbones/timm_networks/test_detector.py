"""timm's networks in detectors: levels, what learns, how fast, windows, and detectors that cannot carry a network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_backbone

from clop_det.backbones import BACKBONES
from clop_det.backbones.detectors import bottom_up
from clop_det.backbones.timm_networks.detector import layers
from clop_det.backbones.timm_networks.network import build_network
from clop_det.backbones.timm_networks.windows import global_blocks
from clop_det.detection.model import build_detector
from clop_det.detection.optimizer import build_optimizer
from clop_det.errors import UserError

FAMILY = BACKBONES["timm"]


def config(target: str, arch: str, *options: Any) -> CfgNode:
    cfg = FAMILY.target_config(target)
    cfg.MODEL.TIMM.ARCH = arch
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.merge_from_list(list(options))
    return cfg


@pytest.mark.parametrize(
    ("target", "arch", "levels"),
    [
        ("FPN", "timm:test_convnext", "p2 p3 p4 p5 p6"),
        ("retinanet_FPN", "timm:test_convnext", "p2 p3 p4 p5 p6 p7"),
        ("SFP", "timm:test_vit", "p2 p3 p4 p5 p6"),
        ("SFP", "timm:test_vit:patch_size=8", "p2 p3 p4 p5"),
        ("retinanet_SFP", "timm:test_vit", "p3 p4 p5 p6 p7"),
    ],
)
def test_the_levels_of_a_pyramid_have_the_sides_that_their_names_say(target: str, arch: str, levels: str) -> None:
    backbone = build_backbone(config(target, arch)).eval()
    with torch.no_grad():
        found = backbone(torch.randn(1, 3, 64, 96))
    assert list(found) == levels.split()
    for name, value in found.items():
        stride = 2 ** int(name[1])
        assert value.shape[1:] == (32, -(-64 // stride), -(-96 // stride))
        assert backbone.output_shape()[name].stride == stride


def test_patches_of_14_pixels_give_a_map_of_stride_16() -> None:
    backbone = build_backbone(config("SFP", "timm:test_vit:patch_size=14:img_size=140")).eval()
    assert backbone.net.output_shape()["block6"].stride == 16
    with torch.no_grad():
        assert backbone.net(torch.randn(1, 3, 64, 96))["block6"].shape[2:] == (4, 6)


def test_what_no_map_needs_does_not_learn_and_everything_else_gets_a_gradient() -> None:
    for target, arch in (("FPN", "timm:test_convnext"), ("SFP", "timm:test_vit")):
        backbone = build_backbone(config(target, arch))
        sum(value.sum() for value in backbone(torch.randn(1, 3, 64, 64)).values()).backward()
        for name, parameter in backbone.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name


@pytest.mark.parametrize(("freeze_at", "frozen"), [(0, set()), (1, {"stem"}), (2, {"stem", "stages.0"})])
def test_the_first_stages_are_frozen(freeze_at: int, frozen: set[str]) -> None:
    cfg = config("FPN", "timm:test_convnext", "MODEL.BACKBONE.FREEZE_AT", freeze_at)
    network = build_backbone(cfg).bottom_up.timm
    still = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    named = {name.split(".")[0] if name.startswith("stem") else ".".join(name.split(".")[:2]) for name in still}
    assert named - {"head.norm"} == frozen


def test_a_frozen_batch_norm_keeps_its_statistics_in_training() -> None:
    backbone = build_backbone(config("FPN", "timm:test_resnet", "MODEL.TIMM.NORM", "FrozenBN")).train()
    before = {name: tensor.clone() for name, tensor in backbone.bottom_up.timm.state_dict().items()}
    backbone(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.bottom_up.timm.state_dict().items())
    assert not any(p.requires_grad for n, p in backbone.bottom_up.timm.named_parameters() if "bn" in n)


def test_layer_wise_decay_is_vitdets() -> None:
    from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate

    options = ["MODEL.TIMM.LR_DECAY", 0.7]
    detector = torch.nn.Module()
    detector.backbone = build_backbone(config("SFP", "timm:test_vit"))
    factors = FAMILY.lr_factors(detector, config("SFP", "timm:test_vit", *options))
    for name, _ in detector.named_parameters():
        if ".norm." in f".{name}" and "blocks" not in name:
            continue  # learns nothing
        expected = get_vit_lr_decay_rate(name, 0.7, 6) if ".cls_token" not in name else 0.7**7
        assert factors.get(name, 1.0) == pytest.approx(expected), name


def test_the_last_block_has_the_rate_next_to_that_of_the_pyramid() -> None:
    cfg = config("FPN", "timm:test_convnext", "MODEL.TIMM.LR_DECAY", 0.5)
    detector = torch.nn.Module()
    detector.backbone = build_backbone(cfg)
    factors = FAMILY.lr_factors(detector, cfg)
    blocks = 2 + sum("conv_dw.weight" in name for name in factors)  # timm's layers: the stem, blocks, the heads above
    assert factors["backbone.bottom_up.timm.stages.3.blocks.1.mlp.fc2.weight"] == 0.5
    assert factors["backbone.bottom_up.timm.stem.0.weight"] == pytest.approx(0.5 ** (blocks - 1))


def test_layers_of_a_network_with_stages_count_blocks_or_stages() -> None:
    network = build_network(FAMILY.find("timm:test_convnext"))  # type: ignore[arg-type]
    assert layers(network, coarse=True)["stages.3.blocks.0.conv_dw.weight"] == 4
    fine = layers(network)
    assert fine["stem.0.weight"] == 0
    assert fine["stages.3.blocks.1.conv_dw.weight"] > fine["stages.3.blocks.0.conv_dw.weight"]


def test_the_optimizer_takes_the_rates_of_the_layers_and_decays_no_position() -> None:
    cfg = config("SFP", "timm:test_vit", "MODEL.TIMM.LR_DECAY", 0.5, "SOLVER.OPTIMIZER", "AdamW")
    cfg.SEED, cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM = 0, 1.0, 0.1, 0.0
    cfg.SOLVER.BIAS_LR_FACTOR = 2.0
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p4"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[64]]
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC = "FastRCNNConvFCHead", 1
    detector: Any = build_detector(cfg)
    optimizer = build_optimizer(cfg, detector, detector)
    assert isinstance(optimizer, torch.optim.AdamW)
    group = {p: g for g in optimizer.param_groups for p in g["params"]}
    network = detector.backbone.net.timm
    assert group[network.pos_embed]["weight_decay"] == 0
    assert group[network.pos_embed]["lr"] == pytest.approx(0.5**7)
    assert group[network.blocks[5].attn.qkv.weight]["lr"] == pytest.approx(0.5)
    assert group[network.blocks[5].attn.qkv.weight]["weight_decay"] == 0.1
    assert group[network.blocks[5].attn.qkv.bias]["lr"] == pytest.approx(2 * 0.5)
    assert group[network.blocks[5].norm1.bias]["lr"] == pytest.approx(2 * 0.5)
    assert group[detector.backbone.simfp_2[0].weight]["lr"] == 1
    assert group[detector.backbone.simfp_2[0].bias]["lr"] == 2


def test_attention_stays_within_its_window() -> None:
    options = ("MODEL.TIMM.WINDOW_SIZE", 2, "MODEL.TIMM.GLOBAL_BLOCKS", 0)
    backbone = build_backbone(config("SFP", "timm:test_vit", *options)).eval()
    images = torch.randn(1, 3, 64, 64)
    other = images.clone()
    other[..., 32:] += 1  # the right windows
    with torch.no_grad():
        one, two = (backbone.net(x)["block6"] for x in (images, other))
    assert torch.equal(one[..., :2], two[..., :2])
    assert not torch.allclose(one[..., 2:], two[..., 2:])


def test_global_blocks_are_where_vitdet_has_them() -> None:
    assert global_blocks(12, 4) == [2, 5, 8, 11]
    assert global_blocks(24, 4) == [5, 11, 17, 23]
    assert global_blocks(32, 4) == [7, 15, 23, 31]


@pytest.mark.parametrize(
    ("target", "arch", "options", "message"),
    [
        ("FPN", "", (), "MODEL.TIMM.ARCH is ''; it must name a network"),
        ("FPN", "timm:test_vit", (), "plain transformer.*Set MODEL.BACKBONE.NAME build_timm_sfp_backbone"),
        ("SFP", "timm:test_convnext", (), "stages of its own. Set MODEL.BACKBONE.NAME build_timm_fpn_backbone"),
        ("FPN", "timm:mixer_s32_224", (), "no detector carries timm:mixer_s32_224: it takes images of 224 px alone"),
        ("FPN", "timm:test_convnext", ("MODEL.TIMM.WINDOW_SIZE", 7), "Set MODEL.TIMM.WINDOW_SIZE 0"),
        ("SFP", "timm:vit_tiny_patch16_dinov3_qkvb", ("MODEL.TIMM.WINDOW_SIZE", 7), "no rotary .*WINDOW_SIZE 0"),
        ("FPN", "timm:test_convnext", ("MODEL.TIMM.OUT_FEATURES", ["res2"]), "has stage1, stage2"),
        ("FPN", "timm:test_convnext", ("MODEL.FPN.IN_FEATURES", ["res2"]), r"stage4. Set MODEL.FPN.IN_FEATURES \[\]"),
        ("FPN", "timm:test_convnext", ("MODEL.ROI_HEADS.NAME", "Res5ROIHeads"), "Set .*NAME StandardROIHeads"),
    ],
)
def test_a_detector_that_cannot_carry_the_network_is_refused(
    target: str, arch: str, options: tuple[Any, ...], message: str
) -> None:
    cfg = config(target, arch, *options)
    with pytest.raises(UserError, match=message):
        FAMILY.check_detector(cfg)
    if "Standard" not in message:
        with pytest.raises(UserError, match=message):
            build_backbone(cfg)


def test_a_network_that_is_named_for_a_detector_of_another_family_is_refused() -> None:
    cfg = config("FPN", "timm:test_vit", "MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "SEED", 0)
    with pytest.raises(UserError, match="builds another network. Set MODEL.BACKBONE.NAME build_timm_sfp_backbone"):
        build_detector(cfg)


def test_a_level_that_the_pyramid_does_not_have_is_named() -> None:
    cfg = config("SFP", "timm:test_vit:patch_size=8:img_size=64", "MODEL.RPN.IN_FEATURES", ["p6"], "SEED", 0)
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p4"]
    with pytest.raises(UserError, match="'p6' is no map of its backbone. Look at the keys that end in IN_FEATURES"):
        build_detector(cfg)


def test_probes_of_images_that_are_no_whole_patches_are_refused() -> None:
    cfg = config("SFP", "timm:test_vit", "PROBE.OBJECTS.SIZE", 40)
    with pytest.raises(UserError, match=r"PROBE.OBJECTS.SIZE is 40, .*multiple of 16, or PROBE.ENABLED False"):
        FAMILY.check_detector(cfg)
    FAMILY.check_detector(config("FPN", "timm:test_convnext", "PROBE.OBJECTS.SIZE", 40))


def test_the_detectors_features_are_pretrainings() -> None:
    for target, arch in (("FPN", "timm:test_convnext"), ("SFP", "timm:test_vit")):
        cfg = config(target, arch)
        detector: Any = torch.nn.Module()
        detector.backbone = build_backbone(cfg)
        detector.eval()
        network = FAMILY.build(arch).eval()
        network.load_state_dict(bottom_up(detector).timm.state_dict())
        images = torch.randn(2, 3, 64, 64)
        assert torch.equal(FAMILY.detector_features(detector, images), network(images))
