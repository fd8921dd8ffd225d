"""The networks that a detector can carry, in families; importing this package registers those that it ships."""

from clop_det.backbones import residual, timm_networks
from clop_det.backbones.base import Family
from clop_det.backbones.parts import Architecture, Backbone, Network, Setting, Stage
from clop_det.backbones.registry import BACKBONES, build_backbone, register_backbone

__all__ = [
    "BACKBONES",
    "Architecture",
    "Backbone",
    "Family",
    "Network",
    "Setting",
    "Stage",
    "build_backbone",
    "register_backbone",
    "residual",
    "timm_networks",
]
