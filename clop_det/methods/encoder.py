"""Encoder: a backbone of any family, and a projector (MLP) behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from clop_det.backbones import Backbone, build_backbone


class Encoder(nn.Module):
    """Backbone and projector.

    Args:
        backbone: images (M,3,H,W) -> features (M,D).
        projector: features (M,D) -> embeddings (M,d), not normalised (the losses normalise).
        feature_dim: D.
        embedding_dim: d.
    """

    def __init__(self, backbone: Backbone, projector: nn.Module, feature_dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.projector = projector
        self.feature_dim = feature_dim
        self.embedding_dim = embedding_dim

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Views (M,3,S,S) float, normalised -> features (M,D), embeddings (M,d)."""
        features = self.backbone(views)
        return features, self.projector(features)


def build_projector(in_dim: int, hidden_dim: int, out_dim: int, num_layers: int = 2) -> nn.Sequential:
    """MLP of `num_layers` linear layers; BatchNorm and ReLU between them, nothing behind the last."""
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
    options: Mapping[str, Any] | None = None,
    hidden_dim: int = 512,
    out_dim: int = 128,
    num_layers: int = 2,
) -> Encoder:
    """Randomly initialised encoder; see `build_backbone` (with `options`) and `build_projector` for the rest."""
    backbone = build_backbone(arch, **(options or {}))
    projector = build_projector(backbone.feature_dim, hidden_dim, out_dim, num_layers)
    return Encoder(backbone, projector, backbone.feature_dim, out_dim)
