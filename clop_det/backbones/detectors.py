"""The side of a detector: the network that it carries, and the one that a proof runs."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone
from torch import Tensor, nn

from clop_det.config import add_clop_config
from clop_det.config.imports import IMPORTED

_WITH_ROI_HEADS = ("GeneralizedRCNN", "PanopticFPN")


class TargetDetector(nn.Module):
    """The parts of a detector that hold backbone weights, under the names that a detector gives them."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.backbone = build_backbone(cfg)

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N,3,H,W), normalised -> {stage: (N,C,H,W)} of the network below the feature pyramid."""
        return dict(bottom_up(self)(images))


def bottom_up(detector: Any) -> Any:
    """The network that a detector carries: the one below its feature pyramid, or its backbone."""
    backbone = detector.backbone
    return getattr(backbone, "bottom_up", getattr(backbone, "net", backbone))


def last_map(detector: Any, images: Tensor) -> Tensor:
    """The map (N,C,H,W) of largest stride that the network below a detector's feature pyramid gives, in fp32."""
    network = bottom_up(detector)
    strides = {name: shape.stride for name, shape in network.output_shape().items()}
    last: Tensor = network(images)[max(strides, key=lambda name: strides[name])]
    return last.float()


def has_res5_head(cfg: CfgNode) -> bool:
    """Whether a detector's box head is the last stage of a ResNet, as in a C4 detector."""
    return cfg.MODEL.META_ARCHITECTURE in _WITH_ROI_HEADS and "Res5" in str(cfg.MODEL.ROI_HEADS.NAME)


def fpn_config(builder: str) -> CfgNode:
    """A Detectron2 config on the CPU with a feature pyramid made by `builder`, a name of MODEL.BACKBONE.NAME."""
    cfg = get_cfg()
    add_clop_config(cfg, list(IMPORTED))  # the builder may read a key of any module that was brought in
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = builder
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    return cfg
