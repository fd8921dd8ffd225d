"""Every source of the catalogue is recognised by content, and every tensor is accounted for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightly.models
import pytest
import timm
import torch
import torchvision
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor, nn

from clop_det.backbones import BACKBONES
from clop_det.backbones.residual import ARCHITECTURES
from clop_det.checkpoints.reading import read_checkpoint
from clop_det.conversion.contents import flatten
from clop_det.conversion.proof import target_config
from clop_det.conversion.sources import SOURCES, Recognition, find_roots, recognise
from clop_det.errors import UserError
from tests.conversion.samples import SAMPLES, backbone_state, mlp, noisy, prefixed, random_network, write_sample

RESIDUAL = BACKBONES["residual"]


def _recognise(content: Any, **kwargs: Any) -> Recognition:
    return recognise(flatten(content, Path("file.pth")), **kwargs)


def _expected(network: nn.Module) -> dict[str, Tensor]:
    return {name: t for name, t in backbone_state(network).items() if not name.endswith("num_batches_tracked")}


def _assert_same(found: Recognition, network: nn.Module) -> None:
    expected = _expected(network)
    assert found.state.keys() == expected.keys()
    assert all(torch.equal(found.state[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("name", SAMPLES)
def test_each_source_is_recognised_and_gives_the_right_tensors(name: str, resnet18: nn.Module, tmp_path: Path):
    contents = flatten(read_checkpoint(write_sample(name, resnet18, tmp_path)), tmp_path)
    found = recognise(contents)
    assert found.source == SAMPLES[name][0]
    _assert_same(found, resnet18)
    dropped = [item for names in found.dropped.values() for item in names]
    assert len(dropped) == len(set(dropped))
    assert len(found.state) + len(dropped) == len(contents.tensors), "a tensor vanished without a reason"


def test_every_entry_that_content_can_show_has_a_sample():
    # "bare" is what "torchvision" is to residual networks, to those of others; MAE and DINO v2, v3 have no ResNets.
    assert {source.name for source in SOURCES if source.by_content} - {"bare", "mae", "dinov2", "dinov3"} == {
        entry for entry, _, _ in SAMPLES.values()
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_the_same_source_can_be_forced(name: str, resnet18: nn.Module):
    content = SAMPLES[name][2](resnet18, 512)
    _assert_same(_recognise(content, source=SAMPLES[name][0]), resnet18)


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "wide_resnet50_2", "resnext50_32x4d"])
def test_timms_own_networks(arch: str):
    with torch.device("meta"):
        network = timm.create_model(arch, pretrained=False)
    found = _recognise(network.state_dict())
    assert found.source == "torchvision"
    assert RESIDUAL.identify(found.state).architecture.name == arch
    assert RESIDUAL.identify(_recognise(network.state_dict(), source="timm").state).architecture.name == arch


def test_lightlys_own_modules(resnet18: nn.Module):
    class SimCLR(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(*list(resnet18.children())[:-1])
            self.projection_head = SimCLRProjectionHead(512, 32, 16)

    found = _recognise({"state_dict": SimCLR().state_dict(), "pytorch-lightning_version": "2"})
    assert found.source == "lightly"
    _assert_same(found, resnet18)


def test_lightlys_own_small_network_has_a_cifar_stem():
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            network = lightly.models.ResNetGenerator("resnet-18")
            self.backbone = nn.Sequential(*list(network.children())[:-1], nn.AdaptiveAvgPool2d(1))

    found = _recognise(Model().state_dict())
    assert found.source == "lightly"
    network = RESIDUAL.identify(found.state)
    assert (network.architecture.name, network.stem) == ("resnet18", "cifar")


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile, lambda net: nn.DataParallel(torch.compile(net))])
def test_real_wrappers(wrap: Any, resnet18: nn.Module):
    found = _recognise({"state_dict": wrap(resnet18).state_dict()})
    assert found.source == "torchvision"
    assert "wrappers taken off" in found.reason
    _assert_same(found, resnet18)


def test_simclr_for_cifar_without_pooling_in_the_sequence():
    network = random_network("resnet18", stem="cifar")
    children = [child for name, child in network.named_children() if name not in ("maxpool", "fc")]
    state = prefixed("f.", nn.Sequential(*children).state_dict()) | prefixed("g.", mlp(512, 32, 16))
    found = _recognise(state)
    assert found.source == "simclr"
    _assert_same(found, network)


def test_the_query_encoder_is_taken_and_not_its_twin(resnet18: nn.Module):
    content = SAMPLES["MoCo v2"][2](resnet18, 512)
    swapped = {name.replace("encoder_q", "X").replace("encoder_k", "encoder_q").replace("X", "encoder_k"): tensor
               for name, tensor in content["state_dict"].items()}  # fmt: skip
    assert torch.equal(
        _recognise({"state_dict": swapped}).state["bn1.bias"], noisy(backbone_state(resnet18))["bn1.bias"]
    )


def test_the_reason_says_what_was_seen(resnet18: nn.Module):
    found = _recognise(SAMPLES["MoCo v2"][2](resnet18, 512))
    assert "encoder_q" in found.reason
    assert "module" in found.reason
    assert {"projector", "momentum twin", "queue", "counter"} <= set(found.dropped)


def test_leftovers_are_an_error_that_lists_them(resnet18: nn.Module):
    state = dict(resnet18.state_dict())
    for extra in ("layer1.0.se.conv.weight", "conv1.bias", "attention.weight", "layer5.0.conv1.weight"):
        with pytest.raises(UserError, match=extra.replace(".", r"\.")):
            _recognise(state | {extra: torch.ones(2)})


@pytest.mark.parametrize("arch", ["resnet50d", "seresnet18", "resnet26d"])
def test_timm_networks_that_only_resemble_a_residual_network_are_refused(arch: str):
    if arch not in timm.list_models():
        arch = "legacy_" + arch
    with torch.device("meta"):
        network = timm.create_model(arch, pretrained=False)
    with pytest.raises(UserError):
        RESIDUAL.identify(_recognise(network.state_dict()).state)


def test_two_different_networks_need_a_choice(resnet18: nn.Module):
    state = backbone_state(resnet18)
    content = prefixed("left.", state) | prefixed("right.", noisy(state))
    with pytest.raises(UserError, match=r"--prefix") as caught:
        _recognise(content)
    assert "left" in str(caught.value)
    assert "right" in str(caught.value)


def test_prefix_chooses_and_the_other_network_is_accounted_for(resnet18: nn.Module):
    state = backbone_state(resnet18)
    content = prefixed("left.", state) | prefixed("right.", noisy(state))
    found = _recognise(content, prefix="right")
    assert torch.equal(found.state["bn1.bias"], noisy(state)["bn1.bias"])
    assert len(found.dropped["another network, passed over by --prefix"]) == len(state)
    with pytest.raises(UserError, match=r"'left\.'"):
        _recognise(content, prefix="middle")


def test_unknown_and_unfitting_source(resnet18: nn.Module):
    with pytest.raises(UserError, match=r"did you mean moco\?"):
        _recognise(resnet18.state_dict(), source="mocko")
    with pytest.raises(UserError, match="does not look like dino"):
        _recognise(resnet18.state_dict(), source="dino")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "no tensors"),
        ({"state_dict": {}, "epoch": 3}, "no tensors.*epoch"),
        ([torch.ones(2)], "a list, not a checkpoint"),
        ({"conv.weight": torch.ones(2)}, "no residual network"),
        ({"res2_0_branch2a_w": torch.ones(2)}, "Caffe2"),
        ({"my_pos_embed": torch.ones(2)}, "vision transformer"),
        ({"module.a": torch.ones(1), "a": torch.ones(1)}, "two tensors are called a"),
    ],
)
def test_contents_without_a_network(content: Any, words: str):
    with pytest.raises(UserError, match=words):
        _recognise(content)


def test_roots_are_found_in_every_spelling(resnet18: nn.Module):
    numbered = nn.Sequential(*list(resnet18.children())[:-1]).state_dict()
    tensors = {**prefixed("a.", backbone_state(resnet18)), **prefixed("b.", numbered)}
    assert {(root.prefix, root.layout) for root in find_roots(tensors)} == {("a.", "torchvision"), ("b.", "numbered")}


def test_a_c4_detectors_last_stage_is_found_in_its_head():
    detector = RESIDUAL.target_network(target_config("C4", RESIDUAL.describe(ARCHITECTURES["resnet50"])))
    detector.roi_heads.res5.add_module("norm", nn.BatchNorm2d(2048))  # the extra norm of MoCo's recipe
    found = _recognise({"model": detector.state_dict(), "iteration": 3})
    assert found.source == "detectron2"
    assert RESIDUAL.identify(found.state).architecture.name == "resnet50"
    assert "roi_heads.res5.norm.weight" in "".join(found.dropped["detector heads"])


def test_torchvision_module_saved_whole(resnet18: nn.Module):
    _assert_same(_recognise(resnet18), resnet18)
    assert isinstance(torchvision.models.resnet18(), nn.Module)
