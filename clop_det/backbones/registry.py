"""The registered families of networks, and which of them an architecture, a file or a detector belongs to."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from clop_det.backbones.base import Family
from clop_det.backbones.parts import Architecture, Backbone
from clop_det.errors import UserError
from clop_det.keys import PRETRAINING, Key
from clop_det.registry import Registry


class _Families(Registry[Family]):
    """ENCODER.ARCH names an architecture, not its family."""

    def listed(self, value: Any) -> list[str]:
        return [] if value is None else [find_architecture(str(value))[0].name]


BACKBONES: Registry[Family] = _Families("backbone", "ENCODER", (PRETRAINING,), "ENCODER.ARCH")


def register_backbone(name: str, options: Mapping[str, Key] | None = None) -> Callable[[type[Family]], type[Family]]:
    """A class decorator that registers a family of networks under `name`.

    Args:
        name: of the family, in lower case; converted files say it.
        options: option name in capitals -> its config key ENCODER.<NAME>.<OPTION>; `build` gets them in lower case.

    Raises:
        UserError: see `Registry.register`.
    """

    def decorate(made: type[Family]) -> type[Family]:
        family = made()
        family.name = name
        BACKBONES.register(name, options)(family)
        return made

    return decorate


def families() -> list[Family]:
    """All registered families, in the order of their names."""
    return [BACKBONES[name] for name in BACKBONES.names()]


def architecture_names() -> list[str]:
    """The values that ENCODER.ARCH takes."""
    return [arch for family in families() for arch in family.architectures()]


def find_architecture(arch: str, key: str = "ENCODER.ARCH") -> tuple[Family, Architecture]:
    """The family and architecture of a name that `key` gives.

    Raises:
        UserError: no family knows it; the nearest name and all names are given.
    """
    for family in families():
        found = family.find(arch)
        if found is not None:
            return family, found
    names = architecture_names()
    near = difflib.get_close_matches(arch, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"{key} {arch!r} is unknown; {hint}choose one of {', '.join(names)}. IMPORTS names the modules that register"
        " more."
    )


def build_backbone(arch: str, **options: Any) -> Backbone:
    """A randomly initialised network of any family; UserError for an unknown `arch` or options that it refuses."""
    return find_architecture(arch)[0].build(arch, **options)


def backbone_options(cfg: CfgNode) -> dict[str, Any]:
    """The options that a config gives to `build_backbone`; UserError as `find_architecture`."""
    family = find_architecture(cfg.ENCODER.ARCH)[0]
    return family.options(cfg, {name.lower(): value for name, value in BACKBONES.options(family.name, cfg).items()})


def family_of_weights(provenance: Mapping[str, Any]) -> Family | None:
    """The family that a file says its network is of; None: it does not say.

    Files of earlier versions give the architecture alone.

    Raises:
        UserError: the family or the architecture is not registered.
    """
    if provenance.get("family") is not None:
        family = str(provenance["family"])
        if family not in BACKBONES:
            raise UserError(
                f"the weights are of the backbone family {family}, which is not registered. Known are"
                f" {', '.join(BACKBONES.names())}; name the module that registers it in IMPORTS."
            )
        return BACKBONES[family]
    if provenance.get("arch") is not None:
        return find_architecture(str(provenance["arch"]), "the weights' architecture")[0]
    return None


def family_of_config(cfg: CfgNode) -> Family | None:
    """The family that the detector of a config carries; None: none of the registered ones."""
    return next((family for family in families() if family.carried_by(cfg)), None)


def family_of_detector(detector: nn.Module) -> Family | None:
    """The family of the network in a detector; None: none of the registered ones."""
    keys = [key for key, _ in detector.named_parameters()]
    return next((family for family in families() if any(map(family.part, keys))), None)


def converted_by_detectron2(names: Iterable[str]) -> str:
    """Whose names the tensors have, where Detectron2 converts them by itself as it loads them, e.g. "Caffe2"."""
    names = list(names)
    return next((others for family in families() if (others := family.converted_by_detectron2(names))), "")
