from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from clop_det.backbones import build_backbone
from clop_det.backbones.residual import ARCHITECTURES
from clop_det.errors import UserError
from clop_det.methods.encoder import build_encoder


def test_shapes_of_features_and_embeddings():
    encoder = build_encoder("resnet18", hidden_dim=32, out_dim=16)
    features, embeddings = encoder(torch.randn(6, 3, 64, 64))
    assert features.shape == (6, 512)
    assert embeddings.shape == (6, 16)
    assert (encoder.feature_dim, encoder.embedding_dim) == (512, 16)


def test_features_are_torchvisions_pooled_output():
    encoder = build_encoder("resnet18").eval()
    reference = torchvision.models.resnet18(weights=None)
    reference.fc = nn.Identity()
    reference.load_state_dict(encoder.backbone.state_dict())
    images = torch.randn(2, 3, 96, 96)  # no map small enough for the short way: the same kernels, the same bits
    torch.testing.assert_close(encoder(images)[0], reference.eval()(images), rtol=0, atol=0)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_architecture_table_agrees_with_torchvision(arch: str):
    described = ARCHITECTURES[arch]
    with torch.device("meta"):
        network = getattr(torchvision.models, arch)(weights=None)
    layers = [network.layer1, network.layer2, network.layer3, network.layer4]
    assert tuple(len(layer) for layer in layers) == described.blocks
    assert hasattr(network.layer1[0], "conv3") == described.bottleneck
    assert network.fc.in_features == described.feature_dim
    assert network.layer1[0].conv2.groups == described.groups
    assert network.layer1[0].conv2.out_channels == described.groups * described.width_per_group
    assert str(described.depth) in arch


def test_cifar_stem_keeps_the_resolution_of_tiny_images():
    backbone = build_backbone("resnet18", stem="cifar")
    assert backbone.conv1.weight.shape == (64, 3, 3, 3)
    stem = backbone.maxpool(backbone.conv1(torch.randn(1, 3, 32, 32)))
    assert stem.shape[-2:] == (32, 32)


def test_projector_depth_and_bias():
    projector = build_encoder("resnet18", hidden_dim=8, out_dim=4, num_layers=3).projector
    linears = [layer for layer in projector if isinstance(layer, nn.Linear)]
    assert [tuple(layer.weight.shape) for layer in linears] == [(8, 512), (8, 8), (4, 8)]
    assert [layer.bias is None for layer in linears] == [True, True, False]
    single = build_encoder("resnet18", out_dim=4, num_layers=1).projector
    assert [type(layer) for layer in single] == [nn.Linear]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"arch": "resnet81"}, ["ENCODER.ARCH", "resnet81", "resnet18"]),
        ({"arch": "resnet18", "options": {"stem": "tiny"}}, ["ENCODER.STEM", "tiny", "cifar"]),
    ],
)
def test_bad_configuration_names_key_and_value(arguments: dict[str, object], words: list[str]):
    with pytest.raises(UserError) as caught:
        build_encoder(**arguments)  # type: ignore[arg-type]
    assert all(word in str(caught.value) for word in words)
