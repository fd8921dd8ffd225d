"""What `method_overheads.py` measures: the step of a method, as a function that takes embeddings and ignores them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from clop_det.config.reading import read_config
from clop_det.data.views import ViewGroup, Views
from clop_det.pretraining.accumulation import total
from clop_det.pretraining.build import build_method


def method_step(name: str, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """A step of a method's recipe for the digits, of views drawn once; the next one does what follows an update."""
    recipe = f"{name}_digits" if name != "single" else "resnet18_digits"
    options = ["MODEL.DEVICE", labels.device.type, "SOLVER.PRECISION", "fp32"]
    options += ["LOSS.NAME", "info_nce"] if name == "single" else []
    cfg = read_config(f"pretrain/{recipe}.yaml", options)
    method = build_method(cfg, 10, labels.device).train()
    first, *further = [_drawn(group, labels, cfg.CLASSIFICATION.IMAGE_SIZE) for group in method.views_needed]
    views = dataclasses.replace(first, further=tuple(further))
    stepped = False

    def step(_: Tensor) -> Tensor:
        nonlocal stepped
        if stepped:
            method.after_step(0.5)
        stepped = True
        method.zero_grad()
        return total(method(views, labels))

    return step


def _drawn(group: ViewGroup, labels: Tensor, size: int) -> Views:
    shape, side = (len(group.kinds), len(labels)), group.size or size
    pixels = torch.randn(*shape, 3, side, side, device=labels.device)
    boxes = torch.tensor([0.0, 0, size, size], device=labels.device).expand(*shape, 4)
    return Views(pixels, boxes, torch.zeros(shape, dtype=torch.bool, device=labels.device), group.kinds)
