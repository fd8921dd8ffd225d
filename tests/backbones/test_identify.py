from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor

from clop_det.backbones import BACKBONES
from clop_det.backbones.base import shapes_of
from clop_det.backbones.residual import ARCHITECTURES
from clop_det.errors import UserError

RESIDUAL = BACKBONES["residual"]


def _state(arch: str, **kwargs: int) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = getattr(torchvision.models, arch)(weights=None, **kwargs)
    return {name: tensor for name, tensor in network.state_dict().items() if RESIDUAL.is_own_name(name)}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_is_told_by_its_shapes(arch: str):
    network = RESIDUAL.identify(_state(arch))
    assert (network.architecture.name, network.stem) == (arch, "imagenet")
    assert shapes_of(RESIDUAL, arch).keys() == _state(arch).keys()


def test_cifar_stem():
    assert RESIDUAL.identify(_state("resnet18") | {"conv1.weight": torch.ones(64, 3, 3, 3)}).stem == "cifar"


@pytest.mark.parametrize("shape", [(64, 1, 7, 7), (128, 3, 7, 7), (64, 3, 5, 5), (64, 4, 7, 7)])
def test_other_stems_are_refused(shape: tuple[int, ...]):
    with pytest.raises(UserError, match=r"conv1\.weight has shape"):
        RESIDUAL.identify(_state("resnet18") | {"conv1.weight": torch.ones(shape)})


def test_unknown_width_and_depth():
    with pytest.raises(UserError, match="no known network"):
        RESIDUAL.identify(_state("resnet50", width_per_group=96))
    without_last_block = {name: t for name, t in _state("resnet50").items() if not name.startswith("layer3.5.")}
    with pytest.raises(UserError, match=r"\(3, 4, 5, 3\)"):
        RESIDUAL.identify(without_last_block)


def test_missing_misshapen_and_superfluous_tensors_are_listed():
    state = _state("resnet18")
    del state["layer2.0.bn1.running_var"]
    state["layer3.1.conv2.weight"] = torch.ones(1)
    state["layer1.0.downsample.0.weight"] = torch.ones(1)
    with pytest.raises(UserError) as caught:
        RESIDUAL.identify(state)
    words = [
        "layer2.0.bn1.running_var (missing)",
        "layer3.1.conv2.weight ((1,) instead of",
        "layer1.0.downsample.0.weight",
    ]
    assert all(word in str(caught.value) for word in [*words, "3 tensors"])
