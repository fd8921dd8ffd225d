"""The residual networks that pretraining, conversion and detection share, and the numbers that tell them apart."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One residual network of torchvision, in Detectron2's terms as well.

    Attributes:
        name: torchvision's constructor.
        depth: Detectron2's `MODEL.RESNETS.DEPTH`.
        blocks: residual blocks in res2, res3, res4, res5.
        bottleneck: three convolutions a block (True) or two (False: ResNet-18 and 34).
        groups: `MODEL.RESNETS.NUM_GROUPS`.
        width_per_group: `MODEL.RESNETS.WIDTH_PER_GROUP`, torchvision's `width_per_group`.
    """

    name: str
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


ARCHITECTURES: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        Architecture("resnet18", 18, (2, 2, 2, 2), bottleneck=False),
        Architecture("resnet34", 34, (3, 4, 6, 3), bottleneck=False),
        Architecture("resnet50", 50, (3, 4, 6, 3), bottleneck=True),
        Architecture("resnet101", 101, (3, 4, 23, 3), bottleneck=True),
        Architecture("resnet152", 152, (3, 8, 36, 3), bottleneck=True),
        Architecture("wide_resnet50_2", 50, (3, 4, 6, 3), bottleneck=True, width_per_group=128),
        Architecture("wide_resnet101_2", 101, (3, 4, 23, 3), bottleneck=True, width_per_group=128),
        Architecture("resnext50_32x4d", 50, (3, 4, 6, 3), bottleneck=True, groups=32, width_per_group=4),
        Architecture("resnext101_32x8d", 101, (3, 4, 23, 3), bottleneck=True, groups=32, width_per_group=8),
    )
}
