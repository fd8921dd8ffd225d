"""How files spell residual networks beside torchvision's and Detectron2's plain names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_NUMBERED = re.compile(r"(?P<root>(?:.+\.)?)(?P<index>\d+)\.0\.conv1\.weight")


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
