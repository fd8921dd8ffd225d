"""The names against the real networks: torchvision's constructor on one side, Detectron2's builder on the other."""

from __future__ import annotations

import pytest
from detectron2.modeling import build_backbone

from clop_det.backbones import BACKBONES
from clop_det.backbones.base import shapes_of
from clop_det.backbones.residual import ARCHITECTURES
from clop_det.backbones.residual.naming import detectron2_name, torchvision_name
from clop_det.conversion.proof import target_config

RESIDUAL = BACKBONES["residual"]


@pytest.mark.parametrize("arch", ["resnet18", "resnet34", "resnet50", "wide_resnet50_2", "resnext50_32x4d"])
def test_renamed_names_and_shapes_are_detectron2s(arch: str):
    bottom_up = build_backbone(target_config("FPN", RESIDUAL.describe(ARCHITECTURES[arch]))).bottom_up
    theirs = {
        name: tuple(tensor.shape)
        for name, tensor in bottom_up.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    ours = {detectron2_name(name): shape for name, shape in shapes_of(RESIDUAL, arch).items()}
    assert ours == theirs


@pytest.mark.parametrize(("arch", "count"), [("resnet50", 265), ("resnet18", 100)])
def test_number_of_tensors(arch: str, count: int):
    assert len(shapes_of(RESIDUAL, arch)) == count


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_there_and_back(arch: str):
    names = list(shapes_of(RESIDUAL, arch))
    assert [torchvision_name(detectron2_name(name)) for name in names] == names
    assert len({detectron2_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name",
    ["fc.weight", "layer5.0.conv1.weight", "layer1.0.conv4.weight", "layer1.0.conv1.bias", "bn1.num_batches_tracked",
     "xlayer1.0.conv1.weight", "layer1.0.conv1.weight.x", "conv1.0.weight"],
)  # fmt: skip
def test_names_of_other_things_are_refused(name: str):
    assert not RESIDUAL.is_own_name(name)
    with pytest.raises(KeyError):
        detectron2_name(name)


@pytest.mark.parametrize("name", ["res6.0.conv1.weight", "stem.conv1.bias", "stem.fc.weight", "res2.0.norm.weight"])
def test_detectron2_names_of_other_things_are_refused(name: str):
    with pytest.raises(KeyError):
        torchvision_name(name)
