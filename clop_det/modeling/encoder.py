"""Encoder: a torchvision residual network without its classifier, and a projector (MLP) behind it."""

from __future__ import annotations

import difflib

import torchvision
from torch import Tensor, nn

from clop_det.errors import UserError
from clop_det.modeling.architectures import ARCHITECTURES
from clop_det.modeling.small_maps import use_small_map_convolutions

STEMS = ("imagenet", "cifar")


class Encoder(nn.Module):
    """Backbone and projector.

    Args:
        backbone: torchvision ResNet whose `fc` is `nn.Identity`; images (M,3,H,W) -> features (M,D).
        projector: features (M,D) -> embeddings (M,d), not normalised (the losses normalise).
        feature_dim: D.
        embedding_dim: d.
    """

    def __init__(self, backbone: nn.Module, projector: nn.Module, feature_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.feature_dim = feature_dim
        self.embedding_dim = embedding_dim

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Views (M,3,S,S) float, normalised -> features (M,D), embeddings (M,d)."""
        features = self.backbone(views)
        return features, self.projector(features)


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


def build_projector(in_dim: int, hidden_dim: int, out_dim: int, num_layers: int = 2) -> nn.Sequential:
    """MLP of `num_layers` linear layers; BatchNorm and ReLU between them, nothing behind the last.

    Raises:
        UserError: a size below 1.
    """
    for key, value in (("HIDDEN_DIM", hidden_dim), ("OUT_DIM", out_dim), ("NUM_LAYERS", num_layers)):
        if value < 1:
            raise UserError(f"PROJECTOR.{key} is {value}; it must be at least 1.")
    layers: list[nn.Module] = []
    width = in_dim
    for _ in range(num_layers - 1):
        # The bias would be cancelled by the BatchNorm behind it.
        layers += [nn.Linear(width, hidden_dim, bias=False), nn.BatchNorm1d(hidden_dim), nn.ReLU(inplace=True)]
        width = hidden_dim
    layers.append(nn.Linear(width, out_dim))
    return nn.Sequential(*layers)


def build_encoder(
    arch: str,
    stem: str = "imagenet",
    hidden_dim: int = 512,
    out_dim: int = 128,
    num_layers: int = 2,
) -> Encoder:
    """Randomly initialised encoder; see `build_backbone` and `build_projector` for arguments and errors."""
    backbone = build_backbone(arch, stem)
    feature_dim = ARCHITECTURES[arch].feature_dim
    projector = build_projector(feature_dim, hidden_dim, out_dim, num_layers)
    return Encoder(backbone, projector, feature_dim, out_dim)
