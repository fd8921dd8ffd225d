"""ROI heads that configs name; importing this module registers them."""

from __future__ import annotations

from typing import Any

from detectron2.layers import get_norm
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.roi_heads import Res5ROIHeads
from torch import Tensor, nn


@ROI_HEADS_REGISTRY.register()
class Res5ROIHeadsExtraNorm(Res5ROIHeads):
    """The C4 head with a normalisation layer (MODEL.RESNETS.NORM) behind res5, before box and mask predictors.

    He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning", appendix: an extra norm lets
    networks whose features have another scale than ImageNet-supervised ones be fine-tuned with the same learning rate.
    The residual blocks keep the names `res5.0` to `res5.2`, so converted checkpoints fit.
    """

    @classmethod
    def _build_res5_block(cls, cfg: Any) -> tuple[nn.Sequential, int]:
        blocks, out_channels = super()._build_res5_block(cfg)
        norm = get_norm(cfg.MODEL.RESNETS.NORM, out_channels)
        blocks.add_module("norm", norm)
        return blocks, out_channels

    def residual_res5(self, features: Tensor) -> Tensor:
        """res5 without the extra norm: the pretrained network's own last stage."""
        for block in list(self.res5.children())[:-1]:
            features = block(features)
        return features
