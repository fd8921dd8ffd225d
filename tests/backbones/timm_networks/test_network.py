"""timm's networks as backbones: timm's own features and maps, names, sizes, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch

from clop_det.backbones import BACKBONES, build_backbone
from clop_det.backbones.registry import backbone_options, find_architecture
from clop_det.backbones.timm_networks.architectures import facts_of, find
from clop_det.config.reading import read_config
from clop_det.errors import UserError

FAMILY = BACKBONES["timm"]


def twin(name: str, network: torch.nn.Module, **options: Any) -> Any:
    """timm's own network with the same weights."""
    made = timm.create_model(name, pretrained=False, num_classes=0, **options)
    made.load_state_dict(network.state_dict())
    return made.eval()


@pytest.mark.parametrize(
    ("name", "options"),
    [("test_convnext", {}), ("test_resnet", {}), ("test_vit", {"img_size": 96}), ("mobilenetv3_small_050", {})],
)
def test_features_and_tensors_are_timms(name: str, options: dict[str, Any]) -> None:
    settings = "".join(f":{key}={value}" for key, value in options.items())
    network = build_backbone(f"timm:{name}{settings}").eval()
    images = torch.randn(2, 3, 96, 96)
    theirs = twin(name, network, **options)
    assert torch.equal(network(images), theirs(images))
    assert network(images).shape == (2, network.feature_dim)
    features, maps = network.features_and_maps(images)
    assert torch.equal(features, theirs(images))
    assert all(torch.equal(maps[name], value) for name, value in network.maps(images).items())


@pytest.mark.parametrize("name", ["test_convnext", "test_resnet", "regnetx_002"])
def test_maps_of_a_network_with_stages_are_those_of_timms_feature_extractor(name: str) -> None:
    network = build_backbone(f"timm:{name}").eval()
    theirs = timm.create_model(name, pretrained=False, num_classes=0, features_only=True, out_indices=(-4, -3, -2, -1))
    flat = {re.sub(r"^(stages|stem)\.(\d)", r"\1_\2", name): tensor for name, tensor in network.state_dict().items()}
    named = flat if name == "test_convnext" else network.state_dict()
    assert not theirs.load_state_dict(named, strict=False).missing_keys
    images = torch.randn(1, 3, 64, 96)
    maps = network.maps(images)
    assert list(maps) == ["stage1", "stage2", "stage3", "stage4"]
    for (stage, value), expected in zip(maps.items(), theirs.eval()(images), strict=True):
        assert torch.allclose(value, expected, atol=1e-5)
        shape = network.map_shapes[stage]
        assert value.shape[1:] == (shape.width, 64 // shape.stride, 96 // shape.stride)
    assert [shape.stride for shape in network.map_shapes.values()] == [4, 8, 16, 32]


def test_a_plain_transformer_gives_the_map_of_every_block_at_any_resolution() -> None:
    network = build_backbone("timm:test_vit").eval()
    maps = network.maps(torch.randn(1, 3, 80, 112))
    assert list(maps) == [f"block{number}" for number in range(1, 7)]
    assert {value.shape[1:] for value in maps.values()} == {(64, 5, 7)}
    assert network.stride_before_last == 16


def test_only_the_blocks_up_to_the_wanted_map_run() -> None:
    network: Any = build_backbone("timm:test_vit").eval()
    ran = []
    network.blocks[3].register_forward_hook(lambda *_: ran.append(3))
    network.some_maps(torch.randn(1, 3, 32, 32), ["block2"])
    assert not ran


def test_settings_in_the_name_reach_timm_and_have_one_order() -> None:
    one, other = (
        find("timm:test_vit:img_size=64:patch_size=8"),
        find("timm:test_vit.r160_in1k:patch_size=8:img_size=64"),
    )
    assert one == other
    assert one is not None
    assert build_backbone(one.name).state_dict()["pos_embed"].shape == (1, 64 + 1, 64)
    assert facts_of(one).maps["block1"][1].stride == 8


def test_parameters_without_influence_on_a_map_are_known() -> None:
    found = find("timm:test_vit")
    assert found is not None
    assert facts_of(found).unused == {"norm.weight", "norm.bias"}


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("timm:convnext_atta", r"no network 'convnext_atta'.*Did you mean convnext_atto"),
        ("timm:test_vit:img=64", r"'img=64' is no setting.*img_size"),
        ("timm:test_vit:class_token=false:global_pool=avg", r"'class_token=false' sets no number.*True or False"),
        ("timm:test_convnext:qkv_bias=False", r"cannot build test_convnext with qkv_bias False"),
    ],
)
def test_an_unknown_name_or_setting_is_refused(arch: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_architecture(arch)[0].build(arch)


def test_an_architecture_without_maps_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from timm.models.resnet import ResNet

    found = find("timm:test_resnet:global_pool=avg")
    assert found is not None
    monkeypatch.delattr(ResNet, "forward_intermediates")
    with pytest.raises(UserError, match=r"has no feature maps: timm's ResNet"):
        facts_of(found)


@pytest.mark.parametrize(
    ("arch", "size", "remedy"),
    [("timm:test_vit", 40, "multiple of 16, e.g. 32"), ("timm:mixer_s32_224", 64, "Set CLASSIFICATION.IMAGE_SIZE 224")],
)
def test_an_image_size_that_a_network_cannot_take_is_refused(arch: str, size: int, remedy: str) -> None:
    cfg = read_config("", ["ENCODER.ARCH", arch, "CLASSIFICATION.IMAGE_SIZE", str(size)])
    with pytest.raises(UserError, match=rf"CLASSIFICATION.IMAGE_SIZE is {size}, which {arch} cannot take.*{remedy}"):
        backbone_options(cfg)


def test_a_layer_scale_at_its_start_counts_as_fresh_and_is_stirred() -> None:
    network = build_backbone("timm:test_convnext")
    state = network.state_dict()
    assert FAMILY.is_fresh(state)
    FAMILY.stir(network, torch.Generator().manual_seed(0))
    gammas = [tensor for name, tensor in network.state_dict().items() if name.endswith("gamma")]
    assert gammas
    assert all(tensor.min() >= 0.5 for tensor in gammas)
    assert not FAMILY.is_fresh(network.state_dict())
