"""The detector, and how it computes: bf16 where it may, fp32 where it must, memory layout, RoIAlign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor, nn

import clop_det.detection.roi_heads  # noqa: F401  (registers the heads that configs name)
from clop_det.backbones.detectors import last_map
from clop_det.backbones.registry import families, family_of_config, family_of_detector
from clop_det.conversion.conventions import get_key
from clop_det.detection.frozen import freeze_backbone
from clop_det.detection.roi_align import use_small_map_roi_align
from clop_det.engine.precision import check_half_precision
from clop_det.engine.seeding import derive_seed
from clop_det.errors import UserError
from clop_det.keys import DETECTION, check_rules

# Last layers of every head: what comes out goes into losses and box arithmetic, which bf16 would blur.
_LAST_LAYERS = ("objectness_logits", "anchor_deltas", "cls_score", "bbox_pred", "predictor")


def build_detector(cfg: CfgNode) -> nn.Module:
    """Detectron2's model for `cfg`, in training mode, with weights drawn from cfg.SEED.

    Raises:
        UserError: a config that Detectron2 cannot build.
    """
    check_model(cfg)
    torch.manual_seed(derive_seed(cfg.SEED, "detector weights"))
    try:
        model: nn.Module = build_model(cfg)
    except (AssertionError, KeyError) as error:
        what = f"Detectron2 cannot build this model: {error}"
        if isinstance(error, KeyError) and str(error.args[0]).isidentifier():  # a map; of a registry it says more
            what += " is no map of its backbone. Look at the keys that end in IN_FEATURES."
        raise UserError(what) from error
    if cfg.MODEL.FREEZE:
        freeze_backbone(model)
    keep_last_layers_in_fp32(model)
    if cfg.MODEL.DEVICE.startswith("cpu") or cfg.SOLVER.PRECISION != "fp32":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    on_cpu = cfg.MODEL.DEVICE.startswith("cpu")
    if cfg.MODEL.ROI_ALIGN == "matmul" or (cfg.MODEL.ROI_ALIGN == "auto" and (on_cpu or cfg.DETERMINISTIC)):
        # torchvision's CUDA kernel has no fixed order of sums on maps of any size.
        use_small_map_roi_align(model, any_size=bool(cfg.DETERMINISTIC) and not on_cpu)
    return model


def check_model(cfg: CfgNode) -> None:
    """Refuse what would run and mean nothing.

    Raises:
        UserError: a value that breaks its key's rule; fp16 without a GPU; a detector that the family of its network
            refuses; a frozen backbone without weights.
    """
    check_rules(cfg, DETECTION)
    for _, check in MODEL_CHECKS:
        check(cfg)


def _check_backbone(cfg: CfgNode) -> None:
    family = family_of_config(cfg)
    if family is None:  # a backbone of the user's own may read any key
        return
    family.check_detector(cfg)
    for other in families():
        if other is not family:
            other.check_other(cfg)


def _check_frozen_layers(cfg: CfgNode) -> None:
    if cfg.MODEL.WEIGHTS:
        return
    frozen, family = cfg.MODEL.BACKBONE.FREEZE_AT, family_of_config(cfg)
    norm_key = family.norm_key if family else ""
    if cfg.MODEL.FREEZE or frozen > 0 or (norm_key and get_key(cfg, norm_key) == "FrozenBN"):
        what = f"MODEL.BACKBONE.FREEZE_AT is {frozen}" if frozen > 0 else f"{norm_key} is FrozenBN"
        what = f"MODEL.FREEZE is {cfg.MODEL.FREEZE}" if cfg.MODEL.FREEZE else what
        raise UserError(
            f"{what}, but MODEL.WEIGHTS is empty: layers of random numbers would never learn. Give weights, or set"
            " MODEL.FREEZE '', FREEZE_AT 0 and NORM BN (SyncBN on several GPUs)."
        )


# (Name for a report, check that raises UserError), in order.
MODEL_CHECKS: tuple[tuple[str, Callable[[CfgNode], None]], ...] = (
    ("precision", check_half_precision),
    ("backbone", _check_backbone),
    ("frozen layers", _check_frozen_layers),
)


def keep_last_layers_in_fp32(model: nn.Module) -> None:
    """Under autocast, run the last layer of every head in fp32, in place; without autocast nothing changes."""
    for name, module in model.named_modules():
        if name.rsplit(".", 1)[-1] in _LAST_LAYERS and isinstance(module, nn.Linear | nn.Conv2d):
            _run_in_fp32(module)


def _run_in_fp32(module: nn.Module) -> None:
    forward: Any = module.forward

    def in_fp32(values: Tensor) -> Any:
        with torch.autocast(values.device.type, enabled=False):
            return forward(values.float())

    module.forward = in_fp32


def pooled_features(model: nn.Module, images: Tensor) -> Tensor:
    """Pooled features (N, D) of the network that the detector carries, for normalised `images` (N, 3, H, W)."""
    family = family_of_detector(model)
    return family.detector_features(model, images) if family else last_map(model, images).mean(dim=(2, 3))
