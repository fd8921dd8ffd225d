"""What a detector's configuration must say for given weights: input conventions and architecture.

Torch-pretrained networks contradict Detectron2's defaults on every line (BGR, other mean and std, stride in the 1x1
convolution), and a contradiction raises nothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode, get_cfg

from clop_det.backbones.base import Family
from clop_det.backbones.parts import INPUT_SETTINGS, Setting
from clop_det.backbones.registry import family_of_weights
from clop_det.config import add_clop_config
from clop_det.config.imports import IMPORTED
from clop_det.keys import value_of

FITS, FOLLOWS, CONTRADICTS = "fits", "follows", "contradicts"


@dataclass(frozen=True)
class Comparison:
    """A setting of the configuration beside what the weights say of it.

    Attributes:
        setting: key and field.
        ours: the configuration's value.
        theirs: the weights' value.
        architecture: whether it says which network it is.
        verdict: `FITS`; `FOLLOWS`: a convention at Detectron2's default, so training sets it; `CONTRADICTS`: a
            convention that somebody set, or the architecture.
    """

    setting: Setting
    ours: Any
    theirs: Any
    architecture: bool
    verdict: str


def conventions_of_family(family: Family | None) -> tuple[Setting, ...]:
    """The settings that follow the weights: how images are fed, and what the family adds."""
    return INPUT_SETTINGS + (family.conventions if family else ())


def architecture_of_family(family: Family | None) -> tuple[Setting, ...]:
    """The settings that say which network it is."""
    return family.architecture_settings if family else ()


def conventions_known(provenance: Mapping[str, Any]) -> bool:
    """Whether a file says all that a detector must follow: how its images were fed, where its network strides, ..."""
    settings = conventions_of_family(family_of_weights(provenance))
    return all(provenance.get(setting.field) is not None for setting in settings)


def compare_with_weights(cfg: CfgNode, provenance: Mapping[str, Any]) -> list[Comparison]:
    """Every setting that the weights speak of, architecture first: the one set of rules for training and doctor."""
    family = family_of_weights(provenance)
    defaults = get_cfg()
    add_clop_config(defaults, list(IMPORTED))  # with the keys of any family that was brought in
    found = []
    for settings, architecture in ((architecture_of_family(family), True), (conventions_of_family(family), False)):
        for setting in settings:
            theirs = provenance.get(setting.field)
            if theirs is None:
                continue
            ours = value_of(cfg, setting.key, None)  # absent: the config imports no such family
            free = not architecture and ours is not None and same(ours, get_key(defaults, setting.key))
            verdict = FITS if ours is not None and same(ours, theirs) else FOLLOWS if free else CONTRADICTS
            found.append(Comparison(setting, ours, theirs, architecture, verdict))
    return found


def follow(cfg: CfgNode, provenance: Mapping[str, Any]) -> None:
    """Set every key that the provenance speaks of, whatever it was; for configurations made from scratch."""
    family = family_of_weights(provenance)
    for setting in conventions_of_family(family) + architecture_of_family(family):
        if provenance.get(setting.field) is not None:
            set_key(cfg, setting.key, provenance[setting.field])


def get_key(cfg: CfgNode, key: str) -> Any:
    """Value of a dotted key."""
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node


def set_key(cfg: CfgNode, key: str, value: Any) -> None:
    """Set a dotted key in a configuration that is not frozen, without a change of type."""
    *parents, last = key.split(".")
    node = get_key(cfg, ".".join(parents))
    node[last] = list(value) if isinstance(value, list | tuple) else value


def same(one: Any, other: Any) -> bool:
    """Whether two values mean the same; numbers to 1e-4 (fewer digits are no contradiction)."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, bool) or isinstance(other, bool) or isinstance(one, str) or isinstance(other, str):
        return bool(one == other)
    return abs(float(one) - float(other)) <= 1e-4 * max(1.0, abs(float(other)))
