"""Families by name: of an architecture, of a file, of a config, of a detector; and what nobody registered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from detectron2.config import CfgNode, get_cfg
from torch import nn

from clop_det import keys
from clop_det.backbones import BACKBONES, build_backbone, register_backbone
from clop_det.backbones.registry import (
    architecture_names,
    backbone_options,
    family_of_config,
    family_of_detector,
    family_of_weights,
    find_architecture,
)
from clop_det.backbones.residual import ARCHITECTURES, ResidualFamily
from clop_det.config.reading import read_config
from clop_det.conversion.proof import target_config
from clop_det.errors import UserError
from clop_det.keys import Key

RESIDUAL = BACKBONES["residual"]


class OtherFamily(ResidualFamily):
    """Residual networks under other names, carried by no detector."""

    noun = "other network"

    def architectures(self) -> list[str]:
        return ["other:NAME"]

    def find(self, arch: str) -> object:  # type: ignore[override]
        return ARCHITECTURES.get(arch.removeprefix("other:")) if arch.startswith("other:") else None

    def options(self, cfg: CfgNode, own: Mapping[str, Any]) -> dict[str, Any]:
        return super(ResidualFamily, self).options(cfg, own)

    def carried_by(self, cfg: CfgNode) -> bool:
        return False


@pytest.fixture
def _other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BACKBONES, "_entries", dict(BACKBONES._entries))
    monkeypatch.setattr(keys, "_DECLARED", dict(keys._DECLARED))
    register_backbone("other", {"STEM": Key("imagenet", "The stem.")})(OtherFamily)


@pytest.mark.usefixtures("_other")
def test_an_architecture_may_be_a_parametrised_form_and_options_are_keys():
    assert find_architecture("other:resnet34")[0] is BACKBONES["other"]
    assert architecture_names() == ["other:NAME", *ARCHITECTURES, "timm:NAME"]
    cfg = read_config("", ["ENCODER.ARCH", "other:resnet34", "ENCODER.OTHER.STEM", "cifar"])
    assert backbone_options(cfg) == {"stem": "cifar"}
    assert backbone_options(read_config("", ["ENCODER.STEM", "cifar"])) == {"stem": "cifar"}
    assert keys.declared()["ENCODER.STEM"].owner == ("backbone", "residual")


@pytest.mark.usefixtures("_other")
def test_a_name_is_registered_once():
    with pytest.raises(UserError, match=r"'residual' of tests\.backbones.* is registered already, by clop_det"):
        register_backbone("residual")(OtherFamily)


def test_an_unknown_architecture_names_the_nearest():
    with pytest.raises(UserError, match=r"ENCODER\.ARCH 'resnet81' is unknown; did you mean resnet18\?"):
        build_backbone("resnet81")


def test_the_family_of_weights_by_their_record_or_that_of_an_earlier_version():
    assert family_of_weights({"family": "residual"}) is RESIDUAL
    assert family_of_weights({"arch": "resnext50_32x4d"}) is RESIDUAL
    assert family_of_weights({"loss": "clop", "arch": None}) is None
    with pytest.raises(UserError, match="family tiny, which is not registered.*residual.*IMPORTS"):
        family_of_weights({"family": "tiny", "arch": "resnet18"})


@pytest.mark.parametrize(
    ("builder", "residual"),
    [("build_resnet_backbone", True), ("build_retinanet_resnet_fpn_backbone", True), ("build_mnv2_backbone", False)],
)
def test_the_family_of_a_config_by_its_builder(builder: str, residual: bool):
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = builder
    assert (family_of_config(cfg) is RESIDUAL) is residual


def test_the_family_of_a_detector_by_its_tensors():
    detector = RESIDUAL.target_network(target_config("FPN", RESIDUAL.describe(ARCHITECTURES["resnet18"])))
    assert family_of_detector(detector) is RESIDUAL
    assert family_of_detector(nn.Linear(2, 2)) is None


def test_stages_say_width_and_stride_of_the_maps():
    for stem, strides in (("imagenet", [4, 8, 16, 32]), ("cifar", [1, 2, 4, 8])):
        network = build_backbone("resnet18", stem=stem)
        assert [stage.stride for stage in network.map_shapes.values()] == strides
        assert network.stride_before_last == strides[2]
        assert [stage.width for stage in network.map_shapes.values()] == [64, 128, 256, 512]
