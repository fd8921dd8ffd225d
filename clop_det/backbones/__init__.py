"""The networks that a detector can carry."""

from clop_det.backbones.architectures import ARCHITECTURES, Architecture
from clop_det.backbones.residual import build_backbone
from clop_det.backbones.stages import STAGES, stage_features

__all__ = ["ARCHITECTURES", "STAGES", "Architecture", "build_backbone", "stage_features"]
