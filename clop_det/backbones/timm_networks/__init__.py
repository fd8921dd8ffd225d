"""The family of timm's networks: timm's own module is what is pretrained, and what runs in the detector."""

from clop_det.backbones.timm_networks.family import TimmFamily

__all__ = ["TimmFamily"]
