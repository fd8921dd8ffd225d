"""MODEL.FREEZE: a detector whose backbone stays what its weights are, so that its heads alone are trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from torch import nn

from clop_det.backbones.base import Family
from clop_det.backbones.registry import family_of_detector
from clop_det.errors import UserError

_CONVERTED = (nn.BatchNorm2d, nn.SyncBatchNorm, NaiveSyncBatchNorm)


class _Held:
    """Goes before the class of a network that computes in evaluation mode whatever the detector around it does."""

    def train(self, mode: bool = True) -> Any:
        return super().train(False)  # type: ignore[misc]


def freeze_backbone(model: nn.Module) -> None:
    """Keep the network that a detector carries as it is, in place: no gradient, and evaluation mode in training.

    In evaluation mode no path or feature is dropped, and no BatchNorm's statistics move. The pyramid is no part of that
    network and is trained. Names in the state dict stay, but for BatchNorm's counters.

    Raises:
        UserError: the network is of no registered family, so that nobody knows which tensors are its own.
    """
    family = family_of_detector(model)
    if family is None:
        raise UserError(
            "MODEL.FREEZE is all, but the detector carries a network of no registered family. Set MODEL.FREEZE '', or"
            " name the module that registers the family in IMPORTS."
        )
    for network in list(_networks(model, family)):
        network.__class__ = type(type(network).__name__, (_Held, type(network)), {})
        network.eval()
    for name, module in list(model.named_modules()):
        if type(module) in _CONVERTED and family.part(f"{name}.weight"):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, FrozenBatchNorm2d.convert_frozen_batchnorm(module))
    for name, parameter in model.named_parameters():
        if family.part(name):
            parameter.requires_grad_(False)


def _networks(module: nn.Module, family: Family, prefix: str = "") -> Iterator[nn.Module]:
    """The largest modules all of whose parameters are the family's."""
    inside = [bool(family.part(f"{prefix}{name}")) for name, _ in module.named_parameters()]
    if inside and all(inside):
        yield module
    elif any(inside):
        for name, child in module.named_children():
            yield from _networks(child, family, f"{prefix}{name}.")
