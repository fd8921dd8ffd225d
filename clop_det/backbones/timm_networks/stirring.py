"""Parts that are as they were initialised, which hide mistakes: LayerScale of 1e-6, branches and shifts of zero."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from clop_det.backbones.batch_norm import has_trivial_statistics, stir_batch_norm


def is_fresh(state: Mapping[str, Tensor]) -> bool:
    """Whether some tensor of several elements holds one number, or a BatchNorm has no statistics yet."""
    constant = any(bool((t == t.flatten()[0]).all()) for t in state.values() if t.numel() > 1 and t.is_floating_point())
    return constant or has_trivial_statistics(state)


def stir(network: nn.Module, generator: torch.Generator) -> None:
    """Random numbers for every tensor that holds one number: scales from 0.5 to 1.5, shifts of 0.1; in place."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                if name.endswith("bias") or parameter.dim() > 2:
                    nn.init.normal_(parameter, 0.0, 0.1, generator=generator)
                else:
                    nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        stir_batch_norm(network, generator)
