"""Detectron2's meta architectures on networks of timm: a step trains the network, a test gives detections."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage

from clop_det.backbones.detectors import bottom_up
from clop_det.detection.model import build_detector
from tests.backbones.timm_networks.test_detector import config

NETWORKS = {"FPN": "timm:test_convnext", "SFP": "timm:test_vit"}


def detector_config(kind: str, target: str) -> CfgNode:
    """A small detector of that kind for images of 64 px."""
    retina = kind == "RetinaNet"
    cfg = config(f"retinanet_{target}" if retina else target, NETWORKS[target])
    cfg.SEED, cfg.MODEL.MASK_ON = 0, kind == "Mask R-CNN"
    levels = [f"p{level}" for level in (range(3, 8) if retina else range(2, 7))]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8 * 2**index] for index in range(len(levels))]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = 3
    if retina:
        cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.RETINANET.IN_FEATURES = "RetinaNet", levels
        cfg.MODEL.RETINANET.NUM_CONVS, cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 1, 0.0
        return cfg
    cfg.MODEL.RPN.IN_FEATURES, cfg.MODEL.ROI_HEADS.IN_FEATURES = levels, levels[:4]
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = (
        "FastRCNNConvFCHead",
        1,
        32,
    )
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 7, 0.0
    cfg.MODEL.ROI_MASK_HEAD.NAME, cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = "MaskRCNNConvUpsampleHead", 1
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 16
    if kind == "Cascade":
        cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = "CascadeROIHeads", True
    return cfg


def image(cfg: CfgNode) -> dict[str, Any]:
    instances = Instances((64, 64))
    instances.gt_boxes = Boxes(torch.tensor([[4.0, 4, 40, 40], [20.0, 24, 60, 60]]))
    instances.gt_classes = torch.tensor([0, 2])
    if cfg.MODEL.MASK_ON:
        instances.gt_masks = BitMasks(torch.ones(2, 64, 64, dtype=torch.bool))
    pixels = torch.randint(256, (3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return {"image": pixels, "instances": instances, "height": 64, "width": 64}


@pytest.mark.parametrize("target", NETWORKS)
@pytest.mark.parametrize("kind", ["Faster R-CNN", "Mask R-CNN", "Cascade", "RetinaNet"])
def test_it_trains_and_detects(kind: str, target: str) -> None:
    cfg = detector_config(kind, target)
    detector: Any = build_detector(cfg)
    with EventStorage():
        losses = detector([image(cfg)])
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert ("loss_mask" in losses) == (kind == "Mask R-CNN")
    assert ("loss_box_reg_stage2" in losses) == (kind == "Cascade")
    for name, parameter in bottom_up(detector).timm.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    with torch.no_grad():
        (found,) = detector.eval()([image(cfg)])
    assert len(found["instances"])
    assert found["instances"].has("pred_masks") == cfg.MODEL.MASK_ON
