"""Inputs and comparisons shared by the tests of the losses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from clop_det.losses import InfoNCE, Loss, build_loss, loss_names
from clop_det.losses import partition as partition_module

# Losses that count or choose labelled views on the host: a step waits for the GPU, and torch.compile cannot trace them.
ASKING = {"dot_regression", "lejepa", "mcr2", "nonl", "ntce", "paws", "prototype_softmax", "suncet", "wmse"}
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}


def two_views(num_images: int, dim: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    """(2N, d): second views near the first ones, norms far from 1."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(num_images, dim, dtype=torch.float64, generator=generator)
    second = first + 0.5 * torch.randn(num_images, dim, dtype=torch.float64, generator=generator)
    return (3 * torch.cat([first, second])).to(dtype)


def some_labels(num_images: int, num_classes: int, seed: int = 0) -> Tensor:
    """(N,) a mixture of classes and -1."""
    return torch.randint(-1, num_classes, (num_images,), generator=torch.Generator().manual_seed(seed))


def distinct_classes(labels: Tensor) -> Tensor:
    """(2N,) labels for peers that know no -1: every unlabelled image is a class of its own."""
    alone = torch.arange(len(labels)) + labels.max() + 1
    return torch.where(labels < 0, alone, labels).repeat(2)


def value_and_gradient(function: Callable[[Tensor], Tensor], embeddings: Tensor) -> tuple[Tensor, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    value = function(leaf)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def assert_same(
    ours: Callable[[Tensor], Tensor], oracle: Callable[[Tensor], Tensor], embeddings: Tensor, scale: float = 1.0
) -> None:
    """Value and gradient agree to 1e-12 in float64 (times `scale` for values that are large themselves)."""
    value, gradient = value_and_gradient(ours, embeddings)
    expected, expected_gradient = value_and_gradient(oracle, embeddings)
    tolerance = TOLERANCE[embeddings.dtype] * scale
    torch.testing.assert_close(value, expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(gradient, expected_gradient, atol=tolerance, rtol=tolerance)


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut batches into blocks of three rows, so that small tests meet many of them."""
    monkeypatch.setattr(partition_module, "_BLOCK_ROWS", {"cpu": 3, "cuda": 3})


def every_loss(num_classes: int, dim: int) -> dict[str, Loss]:
    """Every registered loss, CLOP over every base, and the pull in all its variants; built from a fixed seed."""
    torch.manual_seed(7)
    losses = {name: build_loss(name, {}, num_classes, dim) for name in loss_names()}
    for base in loss_names():
        if base not in ("clop", "prototype_pull"):
            losses[f"clop over {base}"] = build_loss("clop", {"clop": {"BASE": base, "WEIGHT": 0.7}}, num_classes, dim)
    for option, values in {
        "PROTOTYPES": ("simplex_etf", "random_unit", "learned"),
        "SIMILARITY": ("euclidean", "manhattan"),
        "DIRECTIONS": (2,),
        "PULL": ("squared", "softmax", "ntce", "nonl"),
    }.items():
        for value in values:
            losses[f"pull {value}"] = build_loss(
                "prototype_pull", {"prototype_pull": {option: value}}, num_classes, dim
            )
    losses["info_nce, T = 0.01"] = InfoNCE(0.01)
    return losses
