"""Normalisations as they were initialised, which hide mistakes: a branch scaled by zero computes nothing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def has_trivial_statistics(state: Mapping[str, Tensor]) -> bool:
    """Whether some normalisation is as it was initialised (mean 0 and variance 1, or scale 0)."""
    for name, tensor in state.items():
        layer = name.removesuffix(".running_mean")
        if layer == name or f"{layer}.running_var" not in state:
            continue
        fresh = not bool(tensor.any()) and bool((state[f"{layer}.running_var"] == 1).all())
        if fresh or not bool(state[f"{layer}.weight"].any()):
            return True
    return False


def stir_batch_norm(network: nn.Module, generator: torch.Generator) -> None:
    """Give the normalisations random scales and shifts and the statistics of random images, in place."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0.0, 0.1, generator=generator)
            layer.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64, generator=generator))
