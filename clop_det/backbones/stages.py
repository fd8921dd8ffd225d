"""The outputs of a torchvision residual network's four stages, under Detectron2's names."""

from __future__ import annotations

from typing import Any

from torch import Tensor

STAGES = ("res2", "res3", "res4", "res5")


def stage_features(resnet: Any, x: Tensor) -> dict[str, Tensor]:
    """Stage outputs of a torchvision ResNet.

    Args:
        resnet: torchvision ResNet (any stem; a stem without pooling has `nn.Identity` there).
        x: images (N,3,H,W), float, normalised.

    Returns:
        `{"res2": (N,C2,H/4,W/4), "res3": ..., "res4": ..., "res5": (N,8*C2,H/32,W/32)}` for the 7x7 stem.
    """
    x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(x))))
    features: dict[str, Tensor] = {}
    for stage, layer in zip(STAGES, (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4), strict=True):
        x = features[stage] = layer(x)
    return features
