"""torchvision's residual networks as backbones: pooled features, and stems for large and for tiny images."""

from __future__ import annotations

import difflib

import torchvision
from torch import nn

from clop_det.backbones.architectures import ARCHITECTURES
from clop_det.backbones.small_maps import use_small_map_convolutions
from clop_det.errors import UserError

STEMS = ("imagenet", "cifar")


def build_backbone(arch: str, stem: str = "imagenet") -> nn.Module:
    """A randomly initialised torchvision residual network that returns pooled features (M,D).

    Args:
        arch: one of `ARCHITECTURES`.
        stem: "imagenet": 7x7 convolution of stride 2 and max pooling; "cifar": 3x3 of stride 1 and no pooling (SimCLR,
            Chen et al. 2020, appendix B.9), for tiny images. Detection needs the former.

    Raises:
        UserError: unknown `arch` or `stem`.
    """
    if arch not in ARCHITECTURES:
        near = difflib.get_close_matches(arch, ARCHITECTURES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"ENCODER.ARCH {arch!r} is unknown; {hint}choose one of {', '.join(ARCHITECTURES)}.")
    if stem not in STEMS:
        raise UserError(f"ENCODER.STEM {stem!r} is unknown; choose one of {', '.join(STEMS)}.")
    backbone: nn.Module = getattr(torchvision.models, arch)(weights=None)
    backbone.fc = nn.Identity()
    if stem == "cifar":
        conv = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        backbone.conv1 = conv
        backbone.maxpool = nn.Identity()
    use_small_map_convolutions(backbone)
    return backbone
