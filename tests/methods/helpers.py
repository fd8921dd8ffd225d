"""Small networks and views for methods that are stepped by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from clop_det.backbones import Backbone
from clop_det.data.views import STANDARD, Views
from clop_det.losses import Loss, PrototypePull, orthonormal_prototypes
from clop_det.methods import Encoder, Method, MethodContext, build_projector

N, SIDE, WIDTH, DIM, CLASSES = 6, 4, 12, 8, 3


class Layers(nn.Sequential, Backbone):
    """A backbone of a few layers, without maps."""


def small_encoder() -> Encoder:
    pixels = 3 * SIDE * SIDE
    backbone = Layers(nn.Flatten(), nn.Linear(pixels, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU())
    return Encoder(backbone, build_projector(WIDTH, 10, DIM), WIDTH, DIM)


def built(kind: Callable[..., Method], classes: int = CLASSES, **options: Any) -> Any:
    """A method in float64, in training mode; the same initial weights at every call."""
    torch.manual_seed(5)

    def pull() -> Loss:
        return PrototypePull(orthonormal_prototypes(CLASSES, DIM))

    context = MethodContext(small_encoder(), pull, classes, [0.0] * 3, [1.0] * 3)
    return kind(context, **options).double().train()


def made(step: int, views: int = 2, images: int = N, small: int = 0, kinds: tuple[str, ...] | None = None) -> Views:
    """The views of one step."""
    generator = torch.Generator().manual_seed(step)

    def group(count: int) -> Views:
        base = torch.randn(1, images, 3, SIDE, SIDE, dtype=torch.float64, generator=generator)
        pixels = base + torch.randn(count, images, 3, SIDE, SIDE, dtype=torch.float64, generator=generator)
        boxes = torch.tensor([0.0, 0, SIDE, SIDE]).expand(count, images, 4)
        flips = torch.zeros(count, images, dtype=torch.bool)
        return Views(pixels, boxes, flips, kinds or (STANDARD,) * count)

    large = group(views)
    return dataclasses.replace(large, further=(group(small),) if small else ())


def labels_of(step: int, images: int = N) -> Tensor:
    return torch.randint(-1, CLASSES, (images,), generator=torch.Generator().manual_seed(step))
