"""A family of networks from outside the package: `tiny16` and `tiny32`, a stem and four stages of convolutions.

Everything that clop_det and Detectron2 ask of it is in this file: the network, the Detectron2 backbone that runs it in
a detector, and the family that tells clop_det how the two belong together.
"""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling import Backbone as DetectorBackbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from torch import Tensor, nn

from clop_det.backbones import Architecture, Backbone, Family, Setting, Stage, register_backbone
from clop_det.backbones.detectors import fpn_config
from clop_det.keys import DETECTION, Key, at_least, declare

STAGES = ("stage1", "stage2", "stage3", "stage4")
WIDTHS = {"tiny16": 16, "tiny32": 32}

declare(DETECTION, {"MODEL.TINY.WIDTH": Key(16, "Width of the first stage of a tiny network.", at_least(1))})


def _block(width_in: int, width: int) -> nn.Sequential:
    conv = nn.Conv2d(width_in, width, kernel_size=3, stride=2, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU())


class TinyNetwork(Backbone):
    """The network: each stage halves the map and doubles the width; strides 4, 8, 16 and 32.

    Args:
        width: of the first stage.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map_shapes = {name: Stage(width << index, 4 << index) for index, name in enumerate(STAGES)}
        self.feature_dim = width << 3
        self.stem = _block(3, width)
        before = width
        for name, stage in self.map_shapes.items():
            setattr(self, name, _block(before, stage.width))
            before = stage.width

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        x = self.stem(images)
        found = {}
        for name in STAGES:
            x = found[name] = getattr(self, name)(x)
        return found

    def forward(self, images: Tensor) -> Tensor:
        return self.maps(images)[STAGES[-1]].mean(dim=(2, 3))


class TinyBottomUp(DetectorBackbone):
    """The same network in a detector. Its attribute bears the family's name, so its tensors are `tiny.stem...`."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.tiny = TinyNetwork(cfg.MODEL.TINY.WIDTH)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.tiny.maps(images)

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {
            name: ShapeSpec(channels=stage.width, stride=stage.stride) for name, stage in self.tiny.map_shapes.items()
        }


@BACKBONE_REGISTRY.register()
def build_tiny_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """What a detection config names as MODEL.BACKBONE.NAME: the network below a feature pyramid."""
    return FPN(
        bottom_up=TinyBottomUp(cfg),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


class TinyArchitecture(Architecture):
    """A tiny network; its width is what a detection config must agree on."""

    @property
    def facts(self) -> dict[str, Any]:
        return {"arch": self.name, "tiny_width": WIDTHS[self.name]}


@register_backbone("tiny")
class TinyFamily(Family):
    """How pretraining, conversion, detection and the doctor deal with tiny networks."""

    noun = "tiny network"
    layout = "my_backbone"
    shown = "stem, stage1 ... stage4"
    anchor = "stage4.0.weight"
    parts = frozenset({"stem", *STAGES})
    stem_parts = frozenset({"stem"})
    builders = ("build_tiny_fpn_backbone",)
    architecture_settings = (Setting("MODEL.TINY.WIDTH", "tiny_width", "width"),)
    namings = ("my_backbone",)

    def architectures(self) -> list[str]:
        return list(WIDTHS)

    def find(self, arch: str) -> TinyArchitecture | None:
        return TinyArchitecture(arch) if arch in WIDTHS else None

    def build(self, arch: str, **options: Any) -> TinyNetwork:
        return TinyNetwork(WIDTHS[arch])

    def targets(self, architecture: Architecture) -> tuple[str, ...]:
        return ("FPN",)

    def target_config(self, target: str) -> CfgNode:
        cfg = fpn_config("build_tiny_fpn_backbone")
        cfg.MODEL.FPN.IN_FEATURES = list(STAGES)
        return cfg
