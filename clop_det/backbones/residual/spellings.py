"""How files spell residual networks beside torchvision's and Detectron2's plain names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_NUMBERED = re.compile(r"(?P<root>(?:.+\.)?)(?P<index>\d+)\.0\.conv1\.weight")
_ANCHOR = "encoder.stages.0.layers.0.layer.0.convolution.weight"
_STEM = "embedder.embedder.convolution.weight"
# transformers' ResNet: (its names, torchvision's). Its stages and convolutions count from 0.
_TRANSFORMERS = (
    (r"embedder\.embedder\.convolution\.(.+)", "conv1.{0}"),
    (r"embedder\.embedder\.normalization\.(.+)", "bn1.{0}"),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.(\d)\.convolution\.(.+)", "layer{s}.{1}.conv{k}.{3}"),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer\.(\d)\.normalization\.(.+)", "layer{s}.{1}.bn{k}.{3}"),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.shortcut\.convolution\.(.+)", "layer{s}.{1}.downsample.0.{2}"),
    (r"encoder\.stages\.(\d)\.layers\.(\d+)\.shortcut\.normalization\.(.+)", "layer{s}.{1}.downsample.1.{2}"),
)


def transformers_networks(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, str]]:
    """Prefix -> {name in the file: torchvision's name} of each ResNet of Hugging Face's transformers.

    Its RegNet has the same names, and a stem of 3x3.
    """
    prefixes = [name.removesuffix(_ANCHOR) for name in tensors if name.endswith(_ANCHOR)]
    stems = {prefix: tensors.get(prefix + _STEM) for prefix in prefixes}
    return {
        prefix: {
            name: _from_transformers(name[len(prefix) :])
            for name in tensors
            if name.startswith((f"{prefix}embedder.", f"{prefix}encoder."))
        }
        for prefix, stem in stems.items()
        if stem is None or stem.shape[-1] != 3
    }


def _from_transformers(name: str) -> str:
    for pattern, theirs in _TRANSFORMERS:
        if match := re.fullmatch(pattern, name):
            found = match.groups()
            stage, k = (int(found[0]) + 1 if len(found) > 1 else 0), (int(found[2]) + 1 if len(found) > 3 else 0)
            return theirs.format(*found, s=stage, k=k)
    return name


def common_spelling(own: str) -> str:
    """torchvision's name; SupContrast's and lightly's own residual networks say "shortcut" for "downsample"."""
    return own.replace(".shortcut.", ".downsample.")


def numbered_networks(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, str]]:
    """Prefix -> {name in the file: torchvision's name} of each `nn.Sequential(*resnet.children())`."""
    prefixes = dict.fromkeys(match["root"] for name in tensors if (match := _NUMBERED.fullmatch(name)))
    found = {prefix: _numbered(tensors, prefix) for prefix in prefixes}
    return {prefix: names for prefix, names in found.items() if names}


def _numbered(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    """Names of the children in their order: convolution, normalisation, (no tensors), four stages."""
    children: dict[int, list[str]] = {}
    for name in tensors:
        index, _, rest = name[len(prefix) :].partition(".")
        if name.startswith(prefix) and index.isdigit() and rest:
            children.setdefault(int(index), []).append(rest)
    stages = sorted(index for index, parts in children.items() if "0.conv1.weight" in parts)
    before = sorted(index for index in children if stages and index < stages[0])
    if len(stages) != 4 or len(before) != 2 or tensors[f"{prefix}{before[0]}.weight"].dim() != 4:
        return {}
    parts = {before[0]: "conv1", before[1]: "bn1"}
    parts |= {index: f"layer{number}" for number, index in enumerate(stages, start=1)}
    return {
        f"{prefix}{index}.{rest}": common_spelling(f"{part}.{rest}")
        for index, part in parts.items()
        for rest in children[index]
    }
