"""Which residual network a set of tensors is, read from names and shapes alone."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torchvision
from torch import Tensor

from clop_det.backbones import ARCHITECTURES, Architecture
from clop_det.conversion.naming import is_stem_name, is_torchvision_name
from clop_det.errors import UserError


@dataclass(frozen=True)
class Network:
    """A recognised network: its architecture and its stem, "imagenet" (7x7) or "cifar" (3x3)."""

    architecture: Architecture
    stem: str


@functools.lru_cache(maxsize=16)
def expected_shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """torchvision's names and shapes of an architecture, without classifier and counters; takes no memory."""
    with torch.device("meta"):
        state = getattr(torchvision.models, arch)(weights=None).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if is_torchvision_name(name)}


def identify(state: Mapping[str, Tensor]) -> Network:
    """The network whose tensors `state` (torchvision names) holds, all of them and with the right shapes.

    Raises:
        UserError: no known architecture, an unknown stem, missing or misshapen tensors (listed).
    """
    stem = _stem(state)
    architecture = _architecture(state)
    expected = expected_shapes(architecture.name)
    wrong = []
    for name, shape in expected.items():
        if name == "conv1.weight":
            continue
        if name not in state:
            wrong.append(f"{name} (missing)")
        elif tuple(state[name].shape) != shape:
            wrong.append(f"{name} ({tuple(state[name].shape)} instead of {shape})")
    wrong += [f"{name} (not in {architecture.name})" for name in state if name not in expected]
    if wrong:
        shown = ", ".join(wrong[:6]) + (f" and {len(wrong) - 6} more" if len(wrong) > 6 else "")
        raise UserError(f"the network looks like {architecture.name}, but {len(wrong)} tensors do not fit: {shown}.")
    return Network(architecture, stem)


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Raise if a tensor holds NaN or infinity.

    Raises:
        UserError: the tensors' names.
    """
    bad = [name for name, tensor in state.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise UserError(f"{len(bad)} tensors hold NaN or infinity ({', '.join(bad[:3])}); the training had diverged.")


def without_stem(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` without the stem's convolution and normalisation."""
    return {name: tensor for name, tensor in state.items() if not is_stem_name(name)}


def _stem(state: Mapping[str, Tensor]) -> str:
    if "conv1.weight" not in state:
        raise UserError("the network has no conv1.weight (its first convolution); is this a residual network?")
    shape = tuple(state["conv1.weight"].shape)
    if shape == (64, 3, 7, 7):
        return "imagenet"
    if shape == (64, 3, 3, 3):
        return "cifar"
    raise UserError(
        f"conv1.weight has shape {shape}; known stems have 64 filters of 3x7x7 (imagenet) or 3x3x3 (cifar)."
        " Other input channels and widened stems have no counterpart here."
    )


def _architecture(state: Mapping[str, Tensor]) -> Architecture:
    blocks = tuple(_count_blocks(state, stage) for stage in range(1, 5))
    bottleneck = "layer1.0.conv3.weight" in state
    conv2 = state.get("layer1.0.conv2.weight")
    if conv2 is None or conv2.dim() != 4:
        raise UserError("the network has no layer1.0.conv2.weight; is this a residual network?")
    width, per_group = conv2.shape[0], conv2.shape[1]
    groups = width // max(per_group, 1)
    for architecture in ARCHITECTURES.values():
        same = (architecture.blocks, architecture.bottleneck, architecture.groups) == (blocks, bottleneck, groups)
        if same and architecture.width_per_group * architecture.groups == width:
            return architecture
    raise UserError(
        f"blocks {blocks} of {'three' if bottleneck else 'two'} convolutions with {groups} groups and width {width} are"
        f" no known network; known are {', '.join(ARCHITECTURES)}."
    )


def _count_blocks(state: Mapping[str, Tensor], stage: int) -> int:
    pattern = re.compile(rf"layer{stage}\.(\d+)\.")
    return len({match.group(1) for name in state if (match := pattern.match(name))})
