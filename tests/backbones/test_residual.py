from __future__ import annotations

import torch
from torchvision.models.feature_extraction import create_feature_extractor

from clop_det.backbones import build_backbone


def test_stages_are_those_of_torchvisions_feature_extractor():
    network = build_backbone("resnet18").eval()
    names = {f"layer{number}": f"res{number + 1}" for number in range(1, 5)}
    oracle = create_feature_extractor(network, return_nodes=names)
    images = torch.randn(2, 3, 64, 96)
    ours, theirs = network.maps(images), oracle(images)
    assert list(ours) == ["res2", "res3", "res4", "res5"]
    for stage, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[stage], rtol=0, atol=0)


def test_strides_and_channels():
    features = build_backbone("resnet18").maps(torch.randn(1, 3, 64, 64))
    assert {name: tuple(tensor.shape[1:]) for name, tensor in features.items()} == {
        "res2": (64, 16, 16),
        "res3": (128, 8, 8),
        "res4": (256, 4, 4),
        "res5": (512, 2, 2),
    }
