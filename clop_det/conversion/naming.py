"""Tensor names of a residual network: torchvision's (the neutral form here) and Detectron2's, one to one.

| torchvision | Detectron2 |
|---|---|
| `conv1`, `bn1` | `stem.conv1`, `stem.conv1.norm` |
| `layer{1..4}.i` | `res{2..5}.i` |
| `convK`, `bnK` | `convK`, `convK.norm` |
| `downsample.0`, `.1` | `shortcut`, `shortcut.norm` |
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_NORM = r"(?P<part>weight|bias|running_mean|running_var)"
_BLOCK = r"(?P<stage>{0})\.(?P<block>\d+)\."

_TORCHVISION = {
    "stem_conv": re.compile(r"conv1\.weight"),
    "stem_norm": re.compile(rf"bn1\.{_NORM}"),
    "conv": re.compile(rf"{_BLOCK.format('layer[1-4]')}conv(?P<k>[123])\.weight"),
    "norm": re.compile(rf"{_BLOCK.format('layer[1-4]')}bn(?P<k>[123])\.{_NORM}"),
    "short_conv": re.compile(rf"{_BLOCK.format('layer[1-4]')}downsample\.0\.weight"),
    "short_norm": re.compile(rf"{_BLOCK.format('layer[1-4]')}downsample\.1\.{_NORM}"),
}
_DETECTRON2 = {
    "stem_conv": re.compile(r"stem\.conv1\.weight"),
    "stem_norm": re.compile(rf"stem\.conv1\.norm\.{_NORM}"),
    "conv": re.compile(rf"{_BLOCK.format('res[2-5]')}conv(?P<k>[123])\.weight"),
    "norm": re.compile(rf"{_BLOCK.format('res[2-5]')}conv(?P<k>[123])\.norm\.{_NORM}"),
    "short_conv": re.compile(rf"{_BLOCK.format('res[2-5]')}shortcut\.weight"),
    "short_norm": re.compile(rf"{_BLOCK.format('res[2-5]')}shortcut\.norm\.{_NORM}"),
}


def has_caffe2_names(names: Iterable[str]) -> bool:
    """Whether tensors come from Detectron1, whose names Detectron2 converts as it loads them."""
    return any("branch2a" in name for name in names)


def is_torchvision_name(name: str) -> bool:
    """Whether `name` is a tensor of a torchvision residual network without classifier and counters."""
    return any(pattern.fullmatch(name) for pattern in _TORCHVISION.values())


def is_stem_name(name: str) -> bool:
    """Whether the torchvision name `name` belongs to the stem."""
    return name.startswith(("conv1.", "bn1."))


def detectron2_name(name: str) -> str:
    """Detectron2's name of the tensor that torchvision calls `name`.

    Raises:
        KeyError: not a tensor of a torchvision residual network.
    """
    for kind, pattern in _TORCHVISION.items():
        if match := pattern.fullmatch(name):
            return _write_detectron2(kind, match.groupdict())
    raise KeyError(name)


def torchvision_name(name: str) -> str:
    """torchvision's name of the tensor that Detectron2's residual network calls `name`; inverse of `detectron2_name`.

    Raises:
        KeyError: not a tensor of a Detectron2 residual network.
    """
    for kind, pattern in _DETECTRON2.items():
        if match := pattern.fullmatch(name):
            return _write_torchvision(kind, match.groupdict())
    raise KeyError(name)


def _write_detectron2(kind: str, found: dict[str, str]) -> str:
    if kind == "stem_conv":
        return "stem.conv1.weight"
    if kind == "stem_norm":
        return f"stem.conv1.norm.{found['part']}"
    block = f"res{int(found['stage'][-1]) + 1}.{found['block']}"
    return {
        "conv": "{block}.conv{k}.weight",
        "norm": "{block}.conv{k}.norm.{part}",
        "short_conv": "{block}.shortcut.weight",
        "short_norm": "{block}.shortcut.norm.{part}",
    }[kind].format(block=block, k=found.get("k"), part=found.get("part"))


def _write_torchvision(kind: str, found: dict[str, str]) -> str:
    if kind == "stem_conv":
        return "conv1.weight"
    if kind == "stem_norm":
        return f"bn1.{found['part']}"
    block = f"layer{int(found['stage'][-1]) - 1}.{found['block']}"
    return {
        "conv": "{block}.conv{k}.weight",
        "norm": "{block}.bn{k}.{part}",
        "short_conv": "{block}.downsample.0.weight",
        "short_norm": "{block}.downsample.1.{part}",
    }[kind].format(block=block, k=found.get("k"), part=found.get("part"))
