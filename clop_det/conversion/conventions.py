"""What a detector's configuration must say for given weights: input conventions and architecture.

Torch-pretrained networks contradict Detectron2's defaults on every line (BGR, other mean and std, stride in the 1x1
convolution), and a contradiction raises nothing by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode

from clop_det.backbones import Architecture

IMAGENET_MEAN = (123.675, 116.280, 103.530)
IMAGENET_STD = (58.395, 57.120, 57.375)

# Configuration key -> field of the provenance. The first group tells how the network wants its input and where it
# strides; the second which network it is.
CONVENTION_KEYS = {
    "INPUT.FORMAT": "channel_order",
    "MODEL.PIXEL_MEAN": "pixel_mean",
    "MODEL.PIXEL_STD": "pixel_std",
    "MODEL.RESNETS.STRIDE_IN_1X1": "stride_in_1x1",
}
ARCHITECTURE_KEYS = {
    "MODEL.RESNETS.DEPTH": "depth",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": "res2_out_channels",
    "MODEL.RESNETS.WIDTH_PER_GROUP": "width_per_group",
    "MODEL.RESNETS.NUM_GROUPS": "num_groups",
}


def describe(architecture: Architecture) -> dict[str, Any]:
    """The provenance's fields that say which network it is."""
    return {
        "arch": architecture.name,
        "depth": architecture.depth,
        "res2_out_channels": architecture.res2_out_channels,
        "width_per_group": architecture.width_per_group,
        "num_groups": architecture.groups,
    }


def wanted(provenance: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, Any]:
    """Configuration key -> value that the provenance asks for, where it says anything."""
    return {key: provenance[name] for key, name in keys.items() if provenance.get(name) is not None}


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


def follow(cfg: CfgNode, provenance: Mapping[str, Any]) -> None:
    """Set every key that the provenance speaks of, whatever it was; for configurations made from scratch."""
    for key, value in {**wanted(provenance, CONVENTION_KEYS), **wanted(provenance, ARCHITECTURE_KEYS)}.items():
        set_key(cfg, key, value)
