"""The configuration against the weights it names: conventions are set, architecture is checked."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone, build_model
from torch import nn

from clop_det.conversion.compatibility import apply_weights_provenance, conventions_of
from clop_det.conversion.convert import convert_checkpoint
from clop_det.conversion.loading import DetectorCheckpointer
from clop_det.errors import UserError
from tests.conversion.samples import random_network, write_sample


def _config(weights: Path | str, **keys: Any) -> CfgNode:
    """Faster R-CNN R18-FPN on Detectron2's defaults."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.MASK_ON = False
    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.WEIGHTS = str(weights)
    cfg.merge_from_list([item for pair in keys.items() for item in (pair[0].replace("__", "."), pair[1])])
    return cfg


def test_detectron2s_defaults_follow_the_weights_and_the_log_says_so(converted_file: Path):
    cfg = _config(converted_file)
    cfg.freeze()
    lines = apply_weights_provenance(cfg)
    assert cfg.INPUT.FORMAT == "RGB"
    assert cfg.MODEL.PIXEL_MEAN == [123.675, 116.28, 103.53]
    assert cfg.MODEL.PIXEL_STD == [58.395, 57.12, 57.375]
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1 is False
    assert len(lines) == 4
    assert any("INPUT.FORMAT BGR" in line and "RGB" in line for line in lines)
    assert cfg.is_frozen()
    assert apply_weights_provenance(cfg) == [], "a second time there is nothing left to do"


def test_a_right_configuration_is_left_alone(converted_file: Path):
    keys = {
        "INPUT__FORMAT": "RGB",
        "MODEL__PIXEL_MEAN": [123.675, 116.280, 103.530],
        "MODEL__PIXEL_STD": [58.395, 57.120, 57.375],
        "MODEL__RESNETS__STRIDE_IN_1X1": False,
    }
    cfg = _config(converted_file, **keys)
    before = cfg.dump()
    assert apply_weights_provenance(cfg) == []
    assert cfg.dump() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.PIXEL_MEAN", [0.0, 0.0, 0.0]),
        ("MODEL.PIXEL_STD", [255.0, 255.0, 255.0]),
        ("MODEL.RESNETS.DEPTH", 34),
        ("MODEL.RESNETS.DEPTH", 50),
        ("MODEL.RESNETS.RES2_OUT_CHANNELS", 256),
        ("MODEL.RESNETS.WIDTH_PER_GROUP", 128),
        ("MODEL.RESNETS.NUM_GROUPS", 32),
    ],
)
def test_contradictions_name_key_both_values_and_remedy(key: str, value: Any, converted_file: Path):
    cfg = _config(converted_file, **{key.replace(".", "__"): value})
    with pytest.raises(UserError) as caught:
        apply_weights_provenance(cfg)
    expected = {
        "MODEL.RESNETS.DEPTH": "18",
        "MODEL.RESNETS.RES2_OUT_CHANNELS": "64",
        "MODEL.RESNETS.WIDTH_PER_GROUP": "64",
        "MODEL.RESNETS.NUM_GROUPS": "1",
        "MODEL.PIXEL_MEAN": "[123.675, 116.28, 103.53]",
        "MODEL.PIXEL_STD": "[58.395, 57.12, 57.375]",
    }[key]
    assert str(caught.value).startswith(f"{key} is {value}")
    assert f"Set {key} {expected}" in str(caught.value)
    assert str(converted_file) in str(caught.value)


def test_bgr_set_by_hand_against_bgr_weights(torchvision_file: Path, tmp_path: Path):
    convert_checkpoint(torchvision_file, tmp_path / "bgr.pth", verify=False, channel_order="BGR",
                       pixel_mean=[1.0, 2.0, 3.0])  # fmt: skip
    cfg = _config(tmp_path / "bgr.pth", INPUT__FORMAT="RGB")
    with pytest.raises(UserError, match=r"INPUT\.FORMAT is RGB.*BGR"):
        apply_weights_provenance(cfg)


def test_resnet18_never_with_a_res5_head(converted_file: Path):
    cfg = _config(converted_file, MODEL__BACKBONE__NAME="build_resnet_backbone", MODEL__ROI_HEADS__NAME="Res5ROIHeads")
    with pytest.raises(UserError, match="mixture"):
        apply_weights_provenance(cfg)


@pytest.mark.parametrize("name", ["torchvision", "clop_det", "MoCo v2"])
def test_unconverted_weights_are_refused_with_the_command_to_run(name: str, resnet18: nn.Module, tmp_path: Path):
    with pytest.raises(UserError, match=r"clop-det convert") as caught:
        apply_weights_provenance(_config(write_sample(name, resnet18, tmp_path)))
    assert "recognised" in str(caught.value)


def test_a_pkl_without_provenance_shows_its_depth_and_says_what_is_unknown(resnet18: nn.Module, tmp_path: Path):
    path = write_sample("Detectron2 .pkl", resnet18, tmp_path)
    cfg = _config(path)
    assert any("does not say how its images were fed" in line for line in apply_weights_provenance(cfg))
    assert cfg.INPUT.FORMAT == "BGR"
    with pytest.raises(UserError, match=r"MODEL\.RESNETS\.DEPTH is 34"):
        apply_weights_provenance(_config(path, MODEL__RESNETS__DEPTH=34))


def test_a_pkl_without_author_is_taken_for_caffe2_and_does_not_load_by_halves(resnet18: nn.Module, tmp_path: Path):
    path = write_sample("Detectron2 .pkl", resnet18, tmp_path)
    content = pickle.loads(path.read_bytes())
    del content["__author__"]
    path.write_bytes(pickle.dumps(content["model"]))
    with pytest.raises(UserError, match=r"\d+ of 100 backbone tensors"):
        DetectorCheckpointer(build_model(_config(""))).load(str(path))


def test_a_record_that_its_own_tensors_contradict(converted_file: Path, tmp_path: Path):
    content = torch.load(converted_file, weights_only=True)
    content["provenance"]["depth"] = 34
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="changed after it was converted"):
        apply_weights_provenance(_config(tmp_path / "a.pth"))


def test_a_record_of_an_earlier_version_says_no_family(converted_file: Path, tmp_path: Path):
    content = torch.load(converted_file, weights_only=True)
    del content["provenance"]["family"]
    torch.save(content, tmp_path / "old.pth")
    cfg = _config(tmp_path / "old.pth")
    assert len(apply_weights_provenance(cfg)) == 4
    with pytest.raises(UserError, match=r"MODEL\.RESNETS\.DEPTH is 34"):
        apply_weights_provenance(_config(tmp_path / "old.pth", MODEL__RESNETS__DEPTH=34))


def test_weights_of_a_family_that_is_not_registered(tmp_path: Path):
    torch.save({"model": {"tiny.stem.0.weight": torch.ones(1)}, "provenance": {"family": "tiny"}}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth: .*family tiny, which is not registered.*IMPORTS"):
        apply_weights_provenance(_config(tmp_path / "a.pth"))
    with pytest.raises(UserError, match="family tiny, which is not registered"):
        convert_checkpoint(tmp_path / "a.pth", tmp_path / "b.pth")


def test_no_weights_remote_weights_and_missing_weights(tmp_path: Path):
    assert apply_weights_provenance(_config("")) == []
    assert "not a local file" in apply_weights_provenance(_config("detectron2://x/R-50.pkl"))[0]
    with pytest.raises(UserError, match=r"none\.pth"):
        apply_weights_provenance(_config(tmp_path / "none.pth"))


def test_a_stem_left_out_is_reported_and_loads(tmp_path: Path):
    torch.save(random_network("resnet18", stem="cifar").state_dict(), tmp_path / "in.pth")
    convert_checkpoint(tmp_path / "in.pth", tmp_path / "d2.pth", verify=False, allow_stem_reinit=True)
    cfg = _config(tmp_path / "d2.pth")
    assert any("random" in line for line in apply_weights_provenance(cfg))
    DetectorCheckpointer(build_model(cfg)).load(cfg.MODEL.WEIGHTS)


def test_a_whole_detector_takes_every_backbone_tensor_and_evaluates_from_its_own_checkpoint(
    converted_file: Path, resnet18: nn.Module, tmp_path: Path
):
    cfg = _config(converted_file)
    apply_weights_provenance(cfg)
    detector = build_model(cfg)
    checkpointer = DetectorCheckpointer(detector, str(tmp_path), provenance=conventions_of(cfg))
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=False)
    loaded = detector.backbone.bottom_up.state_dict()
    assert torch.equal(loaded["res4.1.conv2.weight"], resnet18.state_dict()["layer3.1.conv2.weight"])
    checkpointer.save("model_final")
    again = _config(tmp_path / "model_final.pth")
    assert len(apply_weights_provenance(again)) == 4
    assert again.INPUT.FORMAT == "RGB"
    assert DetectorCheckpointer(build_model(again)).load(again.MODEL.WEIGHTS)["provenance"]["channel_order"] == "RGB"


def test_loading_into_another_network_is_an_error_before_training(converted_file: Path):
    detector = build_model(_config("", MODEL__RESNETS__DEPTH=34))
    with pytest.raises(UserError, match=r"\d+ of 180 backbone tensors") as caught:
        DetectorCheckpointer(detector).load(str(converted_file))
    assert "MODEL.RESNETS.DEPTH" in str(caught.value)


def test_another_normalisation_has_no_place_for_the_statistics(converted_file: Path):
    DetectorCheckpointer(build_model(_config("", MODEL__RESNETS__NORM="FrozenBN"))).load(str(converted_file))
    for norm in ("GN", ""):
        with pytest.raises(UserError, match=r"no place for \d+ backbone tensors.*running_mean"):
            DetectorCheckpointer(build_model(_config("", MODEL__RESNETS__NORM=norm))).load(str(converted_file))


def test_a_deeper_network_in_the_file_is_not_cut_to_fit(converted_file: Path, tmp_path: Path):
    # Names and shapes of ResNet-34 begin as those of ResNet-18 do: Detectron2 loads all it looks for, without a word.
    torch.save(random_network("resnet34").state_dict(), tmp_path / "in.pth")
    convert_checkpoint(tmp_path / "in.pth", tmp_path / "d2.pth", verify=False)
    with pytest.raises(UserError, match=r"no place for 80 backbone tensors"):
        DetectorCheckpointer(build_model(_config(""))).load(str(tmp_path / "d2.pth"))


def test_a_whole_stage_may_be_left_out(converted_file: Path):
    cfg = _config("", MODEL__BACKBONE__NAME="build_resnet_backbone", MODEL__RESNETS__OUT_FEATURES=["res4"])
    DetectorCheckpointer(nn.ModuleDict({"backbone": build_backbone(cfg)})).load(str(converted_file))
