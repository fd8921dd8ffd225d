"""Encoder = torchvision backbone + projector."""

from clop_det.modeling.architectures import ARCHITECTURES, Architecture
from clop_det.modeling.encoder import Encoder, build_backbone, build_encoder
from clop_det.modeling.stages import STAGES, stage_features

__all__ = ["ARCHITECTURES", "STAGES", "Architecture", "Encoder", "build_backbone", "build_encoder", "stage_features"]
