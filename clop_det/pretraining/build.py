"""Builds a run's model from its config."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode

from clop_det.engine.precision import use_bf16
from clop_det.errors import UserError
from clop_det.losses import build_loss, loss_options
from clop_det.modeling.encoder import build_encoder
from clop_det.pretraining.model import PretrainModel


def check_config(cfg: CfgNode) -> None:
    """Refuse settings that pretraining cannot honour; UserError names the key."""
    if cfg.SEED < 0:
        raise UserError(f"SEED is {cfg.SEED}; a run is a function of its seed, so it must be 0 or more.")
    if cfg.INPUT.FORMAT != "RGB":
        raise UserError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT}; pretraining reads RGB. Set INPUT.FORMAT RGB.")
    if cfg.SOLVER.MAX_ITER < 1:
        raise UserError(f"SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}; it must be at least 1.")


def build_model(cfg: CfgNode, num_classes: int, device: torch.device) -> PretrainModel:
    """Encoder and loss on `device`; the initial weights are a function of SEED alone, equal for every loss.

    Raises:
        UserError: an unknown architecture or loss, or options that the loss refuses (too many classes, ...).
    """
    encoder = build_encoder(
        cfg.ENCODER.ARCH,
        cfg.ENCODER.STEM,
        cfg.PROJECTOR.HIDDEN_DIM,
        cfg.PROJECTOR.OUT_DIM,
        cfg.PROJECTOR.NUM_LAYERS,
    )
    options = {
        loss: {option: cfg.LOSS[loss.upper()][option.upper()] for option in declared}
        for loss, declared in loss_options().items()
    }
    try:
        loss = build_loss(cfg.LOSS.NAME, options, num_classes, cfg.PROJECTOR.OUT_DIM)
    except ValueError as error:
        raise UserError(f"LOSS.NAME {cfg.LOSS.NAME}, PROJECTOR.OUT_DIM {cfg.PROJECTOR.OUT_DIM}: {error}") from error
    model = PretrainModel(
        encoder, loss, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, use_bf16(cfg.SOLVER.PRECISION, device)
    )
    return model.to(device=device, memory_format=torch.channels_last)
