"""The family of residual networks: one file each for its networks, its names, and its place in the package."""

from clop_det.backbones.residual.architectures import ARCHITECTURES, ResidualArchitecture
from clop_det.backbones.residual.family import ResidualFamily
from clop_det.backbones.residual.network import STAGES, ResidualBackbone

__all__ = ["ARCHITECTURES", "STAGES", "ResidualArchitecture", "ResidualBackbone", "ResidualFamily"]
