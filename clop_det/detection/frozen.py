"""MODEL.FREEZE: a detector whose backbone stays what its weights are, so that its heads alone are trained."""

from __future__ import annotations

from typing import Any

from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from clop_det.backbones.registry import family_of_detector
from clop_det.errors import UserError

_CONVERTED = (nn.BatchNorm2d, nn.SyncBatchNorm, NaiveSyncBatchNorm)


class _Held:
    """Goes before the class of a BatchNorm that computes more than one, such as timm's with an activation."""

    def train(self, mode: bool = True) -> Any:
        return super().train(False)  # type: ignore[misc]


def freeze_backbone(model: nn.Module) -> None:
    """Take the gradient from every parameter of the network that a detector carries, and fix its BatchNorms, in place.

    The pyramid is no part of that network and is trained. Names in the state dict stay, but for BatchNorm's counters.

    Raises:
        UserError: the network is of no registered family, so that nobody knows which tensors are its own.
    """
    family = family_of_detector(model)
    if family is None:
        raise UserError(
            "MODEL.FREEZE is all, but the detector carries a network of no registered family. Set MODEL.FREEZE '', or"
            " name the module that registers the family in IMPORTS."
        )
    for name, module in list(model.named_modules()):
        if type(module) in _CONVERTED and family.part(f"{name}.weight"):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, FrozenBatchNorm2d.convert_frozen_batchnorm(module))
        elif isinstance(module, _BatchNorm) and family.part(f"{name}.weight"):
            module.__class__ = type(type(module).__name__, (_Held, type(module)), {})
            module.eval()
    for name, parameter in model.named_parameters():
        if family.part(name):
            parameter.requires_grad_(False)
