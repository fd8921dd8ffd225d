"""torchvision's residual networks, the numbers that tell them apart, and how to tell them by their tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from clop_det.backbones.parts import Architecture
from clop_det.backbones.tensors import differences, some_of
from clop_det.errors import UserError


@dataclass(frozen=True)
class ResidualArchitecture(Architecture):
    """One residual network of torchvision, under its constructor's name, in Detectron2's terms as well.

    Attributes:
        depth: Detectron2's `MODEL.RESNETS.DEPTH`.
        blocks: residual blocks in res2, res3, res4, res5.
        bottleneck: three convolutions a block (True) or two (False: ResNet-18 and 34).
        groups: `MODEL.RESNETS.NUM_GROUPS`.
        width_per_group: `MODEL.RESNETS.WIDTH_PER_GROUP`, torchvision's `width_per_group`.
    """

    depth: int
    blocks: tuple[int, int, int, int]
    bottleneck: bool
    groups: int = 1
    width_per_group: int = 64

    @property
    def res2_out_channels(self) -> int:
        """Detectron2's `MODEL.RESNETS.RES2_OUT_CHANNELS`: 64 for ResNet-18 and 34, 256 for bottleneck networks."""
        return 256 if self.bottleneck else 64

    @property
    def feature_dim(self) -> int:
        """Width D of the pooled features: 512 or 2048."""
        return self.res2_out_channels * 8

    @property
    def facts(self) -> dict[str, Any]:
        """Name, depth, width of res2, width and number of groups."""
        return {
            "arch": self.name,
            "depth": self.depth,
            "res2_out_channels": self.res2_out_channels,
            "width_per_group": self.width_per_group,
            "num_groups": self.groups,
        }


ARCHITECTURES: dict[str, ResidualArchitecture] = {
    architecture.name: architecture
    for architecture in (
        ResidualArchitecture("resnet18", 18, (2, 2, 2, 2), bottleneck=False),
        ResidualArchitecture("resnet34", 34, (3, 4, 6, 3), bottleneck=False),
        ResidualArchitecture("resnet50", 50, (3, 4, 6, 3), bottleneck=True),
        ResidualArchitecture("resnet101", 101, (3, 4, 23, 3), bottleneck=True),
        ResidualArchitecture("resnet152", 152, (3, 8, 36, 3), bottleneck=True),
        ResidualArchitecture("wide_resnet50_2", 50, (3, 4, 6, 3), bottleneck=True, width_per_group=128),
        ResidualArchitecture("wide_resnet101_2", 101, (3, 4, 23, 3), bottleneck=True, width_per_group=128),
        ResidualArchitecture("resnext50_32x4d", 50, (3, 4, 6, 3), bottleneck=True, groups=32, width_per_group=4),
        ResidualArchitecture("resnext101_32x8d", 101, (3, 4, 23, 3), bottleneck=True, groups=32, width_per_group=8),
    )
}


def check_tensors(name: str, state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise unless `state` holds the expected tensors and no others, in their shapes.

    Raises:
        UserError: which are missing, misshapen or superfluous for the network called `name`.
    """
    wrong = differences({tensor: tuple(value.shape) for tensor, value in state.items()}, expected, name)
    if wrong:
        raise UserError(f"the network looks like {name}, but {len(wrong)} tensors do not fit: {some_of(wrong)}.")


def stem_of(state: Mapping[str, Tensor]) -> str:
    """ "imagenet" (7x7) or "cifar" (3x3), by the first convolution; UserError: neither."""
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


def architecture_of(state: Mapping[str, Tensor]) -> ResidualArchitecture:
    """The architecture by numbers of blocks and shapes of the first of them; UserError: none that is known."""
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
