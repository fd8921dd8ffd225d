"""Builds a run's method from its config."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from detectron2.config import CfgNode
from detectron2.engine import create_ddp_model
from detectron2.utils import comm

from clop_det.backbones.registry import backbone_options, find_architecture
from clop_det.data.augment import check_pixel_statistics
from clop_det.engine.compiler import check_compiler
from clop_det.engine.device import check_device
from clop_det.engine.precision import check_half_precision, use_bf16
from clop_det.errors import UserError
from clop_det.keys import PRETRAINING, check_rules
from clop_det.losses import Loss, build_loss, loss_names
from clop_det.losses.registry import LOSSES
from clop_det.methods import METHODS, EmbeddingMethod, Encoder, Method, MethodContext
from clop_det.methods.encoder import build_encoder
from clop_det.methods.sync_batch_norm import synchronise_batch_norm
from clop_det.pretraining.given import load_given


def check_config(cfg: CfgNode, world_size: int = 1) -> None:
    """Refuse settings that pretraining cannot honour with this many processes; UserError names the key."""
    check_rules(cfg, PRETRAINING)
    check_device(cfg.MODEL.DEVICE, world_size > 1)
    check_half_precision(cfg)
    if cfg.SOLVER.COMPILE:
        check_compiler(torch.device(cfg.MODEL.DEVICE))
    pieces, batch = cfg.SOLVER.ACCUMULATE, cfg.SOLVER.IMS_PER_BATCH
    if batch % (world_size * pieces):
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {batch}; it must be a multiple of {world_size * pieces}, the number of processes"
            f" ({world_size}) times SOLVER.ACCUMULATE ({pieces})."
        )


def _half_type(cfg: CfgNode, device: torch.device, stride: int, size: int) -> torch.dtype | Literal[False]:
    """fp16 for SOLVER.AMP, else SOLVER.PRECISION: bf16, or False; fp32 where the CPU's bf16 convolutions are not sound.

    A 3x3 convolution of stride 2 over a single pixel leaves its bf16 weight gradient partly uninitialised on the CPU
    (measured: torch 2.14, oneDNN, 20 of 30 trials not finite; fp32 none). The last stage meets that where a view's
    side `size` is at most `stride`, that of the map which this stage reads.
    """
    if cfg.SOLVER.AMP.ENABLED:
        return torch.float16
    images = cfg.SOLVER.IMS_PER_BATCH // (comm.get_world_size() * cfg.SOLVER.ACCUMULATE)
    chosen = use_bf16(cfg.SOLVER.PRECISION, device, images * cfg.CLASSIFICATION.IMAGE_SIZE**2)
    if not chosen or device.type != "cpu" or stride < size:
        return chosen and torch.bfloat16
    whole = size == cfg.CLASSIFICATION.IMAGE_SIZE
    reason = (
        f"at {'CLASSIFICATION.IMAGE_SIZE' if whole else 'views of'} {size} the CPU's bf16 convolutions are not reliable"
    )
    if cfg.SOLVER.PRECISION == "bf16":
        raise UserError(f"SOLVER.PRECISION is bf16, but {reason}. Set SOLVER.PRECISION fp32.")
    logging.getLogger(__name__).info("precision: fp32 after all; %s", reason)
    return False


def build_method(cfg: CfgNode, num_classes: int, device: torch.device) -> Method:
    """The method that METHOD.NAME names, on `device`; its weights are a function of SEED and of PRETRAIN.FROM's file.

    `num_classes` is 0 where no image has a label.

    Raises:
        UserError: an unknown method, architecture or loss, or options that one of them refuses (too many classes, ...).
    """
    name = cfg.METHOD.NAME
    factory, options = METHODS[name], METHODS.options(name, cfg)
    check_pixel_statistics(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
    encoder = build_encoder(
        cfg.ENCODER.ARCH,
        backbone_options(cfg),
        cfg.PROJECTOR.HIDDEN_DIM,
        cfg.PROJECTOR.OUT_DIM,
        cfg.PROJECTOR.NUM_LAYERS,
    )
    if cfg.PRETRAIN.FROM:
        load_given(encoder.backbone, cfg)
    stride, size = encoder.backbone.stride_before_last, cfg.CLASSIFICATION.IMAGE_SIZE
    context = MethodContext(
        encoder,
        lambda: _loss(cfg, num_classes),
        num_classes,
        cfg.MODEL.PIXEL_MEAN,
        cfg.MODEL.PIXEL_STD,
        _half_type(cfg, device, stride, size),
        cfg.SOLVER.CHANNELS_LAST,
    )
    try:
        method = factory(options, context).to(device)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"METHOD.NAME {name}: {error}") from error
    _check_view_sizes(cfg, method)
    smallest = min(group.size or size for group in method.views_needed)
    if smallest < size:
        method.half_type = _half_type(cfg, device, stride, smallest)
    if cfg.SOLVER.ACCUMULATE > 1 and not isinstance(method, EmbeddingMethod):
        raise UserError(
            f"SOLVER.ACCUMULATE is {cfg.SOLVER.ACCUMULATE}, but the method {name} has no micro-batches: its objective"
            " is not a function of one embedding for each view. Set SOLVER.ACCUMULATE 1."
        )
    _freeze_the_rest(method)
    return method


def _check_view_sizes(cfg: CfgNode, method: Method) -> None:
    family, _ = find_architecture(cfg.ENCODER.ARCH)
    for group in method.views_needed:
        if group.size is not None:
            family.check_size(cfg.ENCODER.ARCH, group.size, group.size_key)


def _loss(cfg: CfgNode, num_classes: int) -> Loss:
    # A loss that a module of another config in this process has registered has no keys in this one.
    known = [name for name in loss_names() if name.upper() in cfg.LOSS or not LOSSES.entry(name).options]
    options = {name: LOSSES.options(name, cfg) for name in known}
    try:
        return build_loss(cfg.LOSS.NAME, options, max(1, num_classes), cfg.PROJECTOR.OUT_DIM)
    except ValueError as error:
        raise UserError(f"LOSS.NAME {cfg.LOSS.NAME}, PROJECTOR.OUT_DIM {cfg.PROJECTOR.OUT_DIM}: {error}") from error


def _freeze_the_rest(method: Method) -> None:
    """No gradient for a parameter that the optimiser does not get: data parallelism would wait for it."""
    trained = {parameter for module in method.trained for parameter in module.parameters()}
    for parameter in method.parameters():
        if parameter not in trained:
            parameter.requires_grad_(False)


def method_facts(cfg: CfgNode, method: Method) -> dict[str, Any]:
    """What a checkpoint says of the method: its name, its loss, and which of the tensors belong to heads."""
    loss = cfg.LOSS.NAME if method.loss is not None else ""
    return {"method": cfg.METHOD.NAME, "loss": loss, "heads": method.heads}


def wrap_for_ranks(cfg: CfgNode, method: Method) -> torch.nn.Module:
    """What a step calls: `method`, in place made ready for several processes and compiled, and wrapped if they are.

    Call it before the optimiser is built. Names in the state_dict of `method` do not change.
    """
    several = comm.get_world_size() > 1
    if several and cfg.ENCODER.SYNC_BN:
        synchronise_batch_norm(method)
    if cfg.SOLVER.COMPILE:
        for module in method.modules():
            if isinstance(module, Encoder):
                module.compile()
    device_ids = [torch.cuda.current_device()] if next(method.parameters()).is_cuda else None
    wrapped: torch.nn.Module = create_ddp_model(method, broadcast_buffers=False, device_ids=device_ids)
    return wrapped
