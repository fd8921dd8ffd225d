"""Which arithmetic the forward pass uses: bf16 autocast where the processor computes in it."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode

from clop_det.engine.config import LEAST_PIXELS
from clop_det.errors import UserError


def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("flags"):
                    return frozenset(line.split(":", 1)[1].split())
    except OSError:
        pass
    return frozenset()


def computes_in_bf16(device: torch.device) -> bool:
    """Whether `device` has bf16 instructions; emulated bf16 is slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and bool({"avx512_bf16", "amx_bf16"} & _cpu_flags())


def check_half_precision(cfg: CfgNode) -> None:
    """Refuse fp16 without a GPU, or beside bf16; UserError."""
    if cfg.SOLVER.AMP.ENABLED and not cfg.MODEL.DEVICE.startswith("cuda"):
        raise UserError(
            f"SOLVER.AMP.ENABLED is fp16 with scaled gradients, which needs a GPU, but MODEL.DEVICE is"
            f' {cfg.MODEL.DEVICE}. Here, SOLVER.PRECISION "bf16" is mixed precision ("auto": where it is faster).'
        )
    if cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.PRECISION == "bf16":
        raise UserError('SOLVER.AMP.ENABLED (fp16) and SOLVER.PRECISION "bf16" ask for two precisions; keep one.')


def use_bf16(setting: str, device: torch.device, pixels: int | None = None) -> bool:
    """Resolve SOLVER.PRECISION ("auto", "bf16" or "fp32") for a device.

    Args:
        setting: of SOLVER.PRECISION.
        device: that of the network.
        pixels: of the images that go through the network at once, each counted in one view; None: enough of them.
    """
    too_few = device.type == "cpu" and pixels is not None and pixels < LEAST_PIXELS
    chosen = (computes_in_bf16(device) and not too_few) if setting == "auto" else setting == "bf16"
    reason = f"; {pixels:,} pixels at once, and below {LEAST_PIXELS:,} bf16 gains little" if too_few else ""
    logging.getLogger(__name__).info(
        "precision: %s (SOLVER.PRECISION %s%s)",
        "bf16" if chosen else "fp32",
        setting,
        reason if setting == "auto" else "",
    )
    return chosen


def use_official_settings(cfg: CfgNode) -> None:
    """Apply CUDNN_BENCHMARK and, where Detectron2 has it, FLOAT32_PRECISION, as its `default_setup` does."""
    torch.backends.cudnn.benchmark = bool(cfg.CUDNN_BENCHMARK)
    matmul = cfg.get("FLOAT32_PRECISION", "")
    if matmul:
        torch.set_float32_matmul_precision(matmul)


def autocast(half: bool | torch.dtype, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast for `device` to bf16 (True) or to the type named, or nothing (False); fp16 needs scaled gradients."""
    dtype = torch.bfloat16 if half is True else half
    return torch.autocast(device.type, dtype=dtype) if dtype else nullcontext()
