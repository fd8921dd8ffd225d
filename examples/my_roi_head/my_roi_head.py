"""A ROI head of your own, with a config key: Detectron2's standard head under another weight of its classification."""

from __future__ import annotations

from typing import Any

from detectron2.config import configurable
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads

from clop_det.keys import DETECTION, Key, above, declare

declare(DETECTION, {"MODEL.ROI_HEADS.CLS_LOSS_WEIGHT": Key(1.0, "Weight of the loss of the classes.", above(0))})


@ROI_HEADS_REGISTRY.register()
class WeightedROIHeads(StandardROIHeads):
    """StandardROIHeads, with the loss of the classes multiplied by MODEL.ROI_HEADS.CLS_LOSS_WEIGHT."""

    @configurable
    def __init__(self, *, cls_loss_weight: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cls_loss_weight = cls_loss_weight

    @classmethod
    def from_config(cls, cfg: Any, input_shape: Any) -> dict[str, Any]:
        """The arguments that a config stands for."""
        return {**super().from_config(cfg, input_shape), "cls_loss_weight": cfg.MODEL.ROI_HEADS.CLS_LOSS_WEIGHT}

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """As StandardROIHeads: (proposals, losses) in training, (detections, {}) otherwise."""
        instances, losses = super().forward(*args, **kwargs)
        if "loss_cls" in losses:
            losses["loss_cls"] = self.cls_loss_weight * losses["loss_cls"]
        return instances, losses
