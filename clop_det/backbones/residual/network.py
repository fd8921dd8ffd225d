"""torchvision's residual networks as backbones: pooled features, maps, and stems for large and for tiny images."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from clop_det.backbones.parts import Backbone, Stage
from clop_det.backbones.residual.architectures import ResidualArchitecture
from clop_det.errors import UserError

STEMS = ("imagenet", "cifar")
STAGES = ("res2", "res3", "res4", "res5")


class ResidualBackbone(ResNet, Backbone):
    """torchvision's network of an architecture without its classifier; names and initial weights are torchvision's.

    Args:
        architecture: which network.
        stem: "imagenet": 7x7 convolution of stride 2 and max pooling; "cifar": 3x3 of stride 1 and no pooling (SimCLR,
            Chen et al. 2020, appendix B.9), for tiny images. Detection needs the former.

    Raises:
        UserError: unknown `stem`.
    """

    def __init__(self, architecture: ResidualArchitecture, stem: str = "imagenet") -> None:
        if stem not in STEMS:
            raise UserError(f"ENCODER.STEM {stem!r} is unknown; choose one of {', '.join(STEMS)}.")
        super().__init__(
            Bottleneck if architecture.bottleneck else BasicBlock,
            list(architecture.blocks),
            groups=architecture.groups,
            width_per_group=architecture.width_per_group,
        )
        self.fc = nn.Identity()
        if stem == "cifar":
            conv = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            self.conv1 = conv
            self.maxpool = nn.Identity()
        self.feature_dim = architecture.feature_dim
        width, stride = architecture.res2_out_channels, 4 if stem == "imagenet" else 1
        self.map_shapes = {name: Stage(width << index, stride << index) for index, name in enumerate(STAGES)}

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        """The stages' outputs under Detectron2's names, `{"res2": (N,C,H/4,W/4), ..., "res5": (N,8*C,H/32,W/32)}`."""
        children: dict[str, Any] = dict(self.named_children())
        x = images
        for name in ("conv1", "bn1", "relu", "maxpool"):
            x = children[name](x)
        features = {}
        for stage, name in zip(STAGES, ("layer1", "layer2", "layer3", "layer4"), strict=True):
            x = features[stage] = children[name](x)
        return features

    def features_and_maps(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        maps = self.maps(images)
        return maps[STAGES[-1]].mean((2, 3)), maps


def move_strides(network: nn.Module) -> None:
    """Move each bottleneck's stride from its 3x3 to its first 1x1 convolution (Caffe's placement), in place."""
    for block in network.modules():
        if isinstance(block, Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
