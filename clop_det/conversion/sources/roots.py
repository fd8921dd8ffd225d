"""Finding residual networks in a flat dictionary of tensors, in each of the three ways that people name them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from clop_det.conversion.naming import torchvision_name

_NAMED = re.compile(r"(?P<root>(?:.+\.)?)layer1\.0\.conv1\.weight")
_NUMBERED = re.compile(r"(?P<root>(?:.+\.)?)(?P<index>\d+)\.0\.conv1\.weight")
_DETECTRON2 = re.compile(r"(?P<root>(?:.+\.)?)res2\.0\.conv1\.weight")

# First parts of names that belong to the network itself; what else stands under the same prefix is not backbone.
_NAMED_PARTS = frozenset({"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"})
_DETECTRON2_PARTS = frozenset({"stem", "res2", "res3", "res4", "res5"})


@dataclass(frozen=True)
class Root:
    """One residual network in a file.

    Attributes:
        prefix: what stands before its tensors' names, "" or ending in a dot.
        layout: "torchvision" (conv1, layer1, ...), "numbered" (an nn.Sequential of torchvision's children) or
            "detectron2" (stem, res2, ...).
        names: name in the file -> torchvision's name, or the name in the file's own terms where there is none.
    """

    prefix: str
    layout: str
    names: dict[str, str]

    @property
    def shown(self) -> str:
        """The prefix for messages."""
        return repr(self.prefix) if self.prefix else "no prefix"


def find_roots(tensors: Mapping[str, Tensor]) -> list[Root]:
    """All residual networks in `tensors`, in the order of the file."""
    roots: dict[tuple[str, str], Root] = {}
    for name in tensors:
        if match := _NAMED.fullmatch(name):
            key = (match["root"], "torchvision")
            roots.setdefault(key, Root(*key, _named(tensors, match["root"])))
        elif match := _DETECTRON2.fullmatch(name):
            key = (match["root"], "detectron2")
            roots.setdefault(key, Root(*key, _detectron2(tensors, match["root"])))
        elif match := _NUMBERED.fullmatch(name):
            key = (match["root"], "numbered")
            if key not in roots and (names := _numbered(tensors, match["root"])):
                roots[key] = Root(*key, names)
    return list(roots.values())


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    names = {}
    for name in tensors:
        inner = name[len(prefix) :]
        if name.startswith(prefix) and inner.split(".")[0] in _NAMED_PARTS:
            names[name] = _common_spelling(inner)
    return names


def _common_spelling(inner: str) -> str:
    # SupContrast's and lightly's own residual networks say "shortcut" for "downsample".
    return inner.replace(".shortcut.", ".downsample.")


def _numbered(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    """Names of `nn.Sequential(*resnet.children())`: convolution, normalisation, (no tensors), four stages."""
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
        f"{prefix}{index}.{rest}": _common_spelling(f"{part}.{rest}")
        for index, part in parts.items()
        for rest in children[index]
    }


def _detectron2(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
    places = [(prefix, _DETECTRON2_PARTS)]
    # A C4 detector keeps the last stage in its head: backbone.res2 ... backbone.res4, roi_heads.res5.
    if prefix.endswith("backbone.") and f"{prefix}res5.0.conv1.weight" not in tensors:
        places.append((prefix[: -len("backbone.")] + "roi_heads.", frozenset({"res5"})))
    names = {}
    for place, parts in places:
        for name in tensors:
            inner = name[len(place) :]
            if name.startswith(place) and inner.split(".")[0] in parts:
                try:
                    names[name] = torchvision_name(inner)
                except KeyError:
                    names[name] = inner
    # The extra norm behind res5 (roi_heads.res5.norm) is part of that head, not of the backbone.
    return {name: inner for name, inner in names.items() if not inner.startswith("res5.norm.")}
