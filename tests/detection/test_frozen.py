"""MODEL.FREEZE all: the backbone stays bit for bit what its weights are; everything else learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

from clop_det.backbones.registry import families
from clop_det.config.reading import read_config
from clop_det.conversion.convert import convert_checkpoint
from clop_det.conversion.loading import DetectorCheckpointer
from clop_det.detection.model import build_detector
from clop_det.errors import UserError
from tests.conversion.samples import random_network


def config(weights: Path | str, freeze: str, file: str = "detection/Base-R_18_FPN.yaml") -> CfgNode:
    pairs = ["SEED", "0", "MODEL.WEIGHTS", str(weights), "MODEL.DEVICE", "cpu", "MODEL.ROI_HEADS.NUM_CLASSES", "2"]
    return read_config(file, [*pairs, "MODEL.FREEZE", freeze, "SOLVER.PRECISION", "fp32"])


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frozen")
    torch.save(random_network("resnet18").state_dict(), folder / "in.pth")
    convert_checkpoint(folder / "in.pth", folder / "d2.pth", verify=False)
    return folder / "d2.pth"


def step(model: nn.Module) -> None:
    """One step of SGD on one image with one box."""
    torch.manual_seed(0)
    truth = Instances((64, 64), gt_boxes=Boxes(torch.tensor([[8.0, 8.0, 40.0, 48.0]])), gt_classes=torch.tensor([1]))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    with EventStorage():
        losses = model([{"image": torch.rand(3, 64, 64) * 255, "instances": truth, "height": 64, "width": 64}])
    sum(losses.values()).backward()
    optimizer.step()


def of_backbone(model: nn.Module) -> dict[str, bool]:
    counters = "num_batches_tracked"
    names = [name for name in model.state_dict() if not name.endswith(counters)]
    return {name: any(family.part(name) for family in families()) for name in names}


@pytest.mark.parametrize("freeze", ["", "all"])
def test_a_step_moves_the_heads_and_only_without_freezing_the_backbone(weights: Path, freeze: str) -> None:
    model = build_detector(config(weights, freeze))
    DetectorCheckpointer(model).load(str(weights))
    given = torch.load(weights, weights_only=True)["model"]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert torch.equal(before["backbone.bottom_up.res2.0.conv1.weight"], given["res2.0.conv1.weight"])
    step(model)
    moved = {
        name: not torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items() if name in before
    }
    kinds = of_backbone(model)
    assert sum(kinds.values()) > 90
    backbone = [moved[name] for name, inside in kinds.items() if inside]
    assert not any(backbone) if freeze else sum(backbone) > 80
    assert moved["backbone.fpn_lateral2.weight"]
    assert moved["roi_heads.box_predictor.cls_score.weight"]


def test_a_frozen_network_computes_what_it_did_where_its_batchnorms_also_activate() -> None:
    """timm's BatchNormAct2d is a BatchNorm2d that ends with the network's activation."""
    pairs = ["SEED", "0", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "given.pth", "MODEL.BACKBONE.FREEZE_AT", "0"]
    pairs += ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.ARCH", "timm:test_efficientnet"]
    pairs += ["MODEL.FPN.IN_FEATURES", "[]", "MODEL.FREEZE"]
    given, frozen = (build_detector(read_config("detection/Base-R_18_FPN.yaml", [*pairs, how])) for how in ("", "all"))
    assert any(isinstance(module, nn.BatchNorm2d) and list(module.children()) for module in given.modules())
    frozen.load_state_dict(given.state_dict())
    images = torch.randn(2, 3, 64, 64)
    expected = given.eval().backbone(images)
    found = frozen.train().backbone(images)
    assert all(torch.allclose(found[level], expected[level], atol=1e-5) for level in expected)
    before, after = given.backbone.bottom_up.state_dict(), frozen.backbone.bottom_up.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in frozen.backbone.bottom_up.timm.parameters())


@pytest.mark.parametrize("freeze", ["", "all"])
def test_a_frozen_network_drops_no_path_in_training(freeze: str) -> None:
    pairs = ["SEED", "0", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "given.pth", "MODEL.BACKBONE.FREEZE_AT", "0"]
    pairs += ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.ARCH", "timm:test_convnext"]
    pairs += ["MODEL.FPN.IN_FEATURES", "[]", "MODEL.TIMM.DROP_PATH", "0.9", "MODEL.FREEZE", freeze]
    model = build_detector(read_config("detection/Base-R_18_FPN.yaml", pairs))
    network, images = model.backbone.bottom_up, torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        for parameter in network.parameters():  # a layer scale of 1e-6 hides what is dropped
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
        expected = model.eval().backbone.bottom_up(images)
        found = model.train().backbone.bottom_up(images)
    assert model.training
    assert model.backbone.fpn_output2.training
    equal = [torch.equal(found[name], expected[name]) for name in expected]
    assert all(equal) == bool(freeze)


def test_random_layers_cannot_be_frozen() -> None:
    with pytest.raises(UserError, match="MODEL.FREEZE is all, but MODEL.WEIGHTS is empty"):
        build_detector(config("", "all"))
