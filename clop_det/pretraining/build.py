"""Builds a run's model from its config."""

from __future__ import annotations

import logging

import torch
from detectron2.config import CfgNode
from detectron2.engine import create_ddp_model
from detectron2.utils import comm

from clop_det.engine.compiler import check_compiler
from clop_det.engine.device import check_device
from clop_det.engine.precision import use_bf16
from clop_det.errors import UserError
from clop_det.losses import build_loss, loss_options
from clop_det.methods.encoder import build_encoder
from clop_det.methods.single import PretrainModel
from clop_det.methods.sync_batch_norm import synchronise_batch_norm


def check_config(cfg: CfgNode, world_size: int = 1) -> None:
    """Refuse settings that pretraining cannot honour with this many processes; UserError names the key."""
    if cfg.SEED < 0:
        raise UserError(f"SEED is {cfg.SEED}; a run is a function of its seed, so it must be 0 or more.")
    if cfg.INPUT.FORMAT != "RGB":
        raise UserError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT}; pretraining reads RGB. Set INPUT.FORMAT RGB.")
    for key in ("MAX_ITER", "CHECKPOINT_PERIOD", "ACCUMULATE", "KEEP_CHECKPOINTS"):
        if cfg.SOLVER[key] < 1:
            raise UserError(f"SOLVER.{key} is {cfg.SOLVER[key]}; it must be at least 1.")
    if cfg.SOLVER.AMP.ENABLED:
        raise UserError("SOLVER.AMP.ENABLED is True; pretraining has no fp16. Set it False, and SOLVER.PRECISION bf16.")
    check_device(cfg.MODEL.DEVICE)
    if cfg.SOLVER.COMPILE:
        check_compiler(torch.device(cfg.MODEL.DEVICE))
    pieces, batch = cfg.SOLVER.ACCUMULATE, cfg.SOLVER.IMS_PER_BATCH
    if batch % (world_size * pieces):
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {batch}; it must be a multiple of {world_size * pieces}, the number of processes"
            f" ({world_size}) times SOLVER.ACCUMULATE ({pieces})."
        )


def _bf16(cfg: CfgNode, device: torch.device) -> bool:
    """SOLVER.PRECISION resolved; fp32 where the CPU's bf16 convolutions cannot be trusted.

    A 3x3 convolution of stride 2 over a single pixel leaves its bf16 weight gradient partly uninitialised on the CPU
    (measured: torch 2.14, oneDNN, 20 of 30 trials not finite; fp32 none). The last stage meets that at 16 px and less.
    """
    chosen = use_bf16(cfg.SOLVER.PRECISION, device)
    stride_before_res5 = 16 if cfg.ENCODER.STEM == "imagenet" else 4
    if not chosen or device.type != "cpu" or stride_before_res5 < cfg.CLASSIFICATION.IMAGE_SIZE:
        return chosen
    reason = (
        f"at CLASSIFICATION.IMAGE_SIZE {cfg.CLASSIFICATION.IMAGE_SIZE} the CPU's bf16 convolutions are not reliable"
    )
    if cfg.SOLVER.PRECISION == "bf16":
        raise UserError(f"SOLVER.PRECISION is bf16, but {reason}. Set SOLVER.PRECISION fp32.")
    logging.getLogger(__name__).info("precision: fp32 after all; %s", reason)
    return False


def build_model(cfg: CfgNode, num_classes: int, device: torch.device) -> PretrainModel:
    """Encoder and loss on `device`; the initial weights are a function of SEED alone, equal for every loss.

    `num_classes` is 0 where no image has a label.

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
        loss = build_loss(cfg.LOSS.NAME, options, max(1, num_classes), cfg.PROJECTOR.OUT_DIM)
    except ValueError as error:
        raise UserError(f"LOSS.NAME {cfg.LOSS.NAME}, PROJECTOR.OUT_DIM {cfg.PROJECTOR.OUT_DIM}: {error}") from error
    bf16, layout = _bf16(cfg, device), cfg.SOLVER.CHANNELS_LAST
    return PretrainModel(encoder, loss, cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, bf16, layout).to(device)


def wrap_for_ranks(cfg: CfgNode, model: PretrainModel) -> torch.nn.Module:
    """What a step calls: `model`, in place made ready for several processes and compiled, and wrapped if they are.

    Call it before the optimiser is built. Names in the state_dict of `model` do not change.
    """
    several = comm.get_world_size() > 1
    if several and cfg.ENCODER.SYNC_BN:
        synchronise_batch_norm(model)
    if cfg.SOLVER.COMPILE:
        model.encoder.compile()
    device_ids = [torch.cuda.current_device()] if next(model.parameters()).is_cuda else None
    wrapped: torch.nn.Module = create_ddp_model(model, broadcast_buffers=False, device_ids=device_ids)
    return wrapped
