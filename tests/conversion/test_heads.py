"""A detector's heads: taken over bit by bit on request, and drawn alike by all runs of a seed otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from torch import nn

from clop_det.commands.convert_job import main
from clop_det.config.reading import read_config
from clop_det.conversion.convert import convert_checkpoint
from clop_det.conversion.loading import DetectorCheckpointer
from clop_det.detection.model import build_detector
from clop_det.detection.start import heads_of, keep_start
from clop_det.errors import UserError
from clop_det.files import read_json


def config(weights: str = "", seed: int = 0, classes: int = 3) -> CfgNode:
    pairs = ["SEED", str(seed), "MODEL.WEIGHTS", weights, "MODEL.DEVICE", "cpu"]
    return read_config("detection/Base-R_18_FPN.yaml", [*pairs, "MODEL.ROI_HEADS.NUM_CLASSES", str(classes)])


def loaded(cfg: CfgNode) -> tuple[nn.Module, DetectorCheckpointer]:
    model = build_detector(cfg)
    checkpointer = DetectorCheckpointer(model)
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=False)
    return model, checkpointer


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """The checkpoint of a detector, and the detector."""
    folder = tmp_path_factory.mktemp("detector")
    model = build_detector(config(seed=5))
    facts = {"channel_order": "RGB", "pixel_mean": [1.0, 2.0, 3.0], "pixel_std": [1.0, 1.0, 1.0]}
    DetectorCheckpointer(model, str(folder), provenance=facts).save("model_final", iteration=3)
    return folder / "model_final.pth", model


RETINA = ["MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.BACKBONE.NAME", "build_timm_retinanet_fpn_backbone"]
RETINA += ["MODEL.ANCHOR_GENERATOR.SIZES", "[[32]]"]


@pytest.mark.parametrize(
    ("name", "options", "kept"),
    [
        ("vitdet_ViT_tiny", [], "backbone.simfp_2.0.weight"),
        ("ConvNeXt_atto_FPN", RETINA, "backbone.top_block.p6.weight"),
        ("ConvNeXt_atto_FPN", [], "backbone.bottom_up.map_norms.stage1.weight"),
    ],
)
def test_the_detector_of_a_network_of_timm_is_read_with_and_without_its_heads(
    name: str, options: list[str], kept: str, tmp_path: Path
) -> None:
    cfg = read_config(f"detection/digits/faster_rcnn_{name}_digits.yaml", ["MODEL.DEVICE", "cpu", *options])
    state = build_detector(cfg).state_dict()
    torch.save({"model": state}, tmp_path / "detector.pth")
    parts = {}
    for keep in (True, False):
        output = tmp_path / f"{keep}.pth"
        arch = cfg.MODEL.TIMM.ARCH
        convert_checkpoint(tmp_path / "detector.pth", output, arch=arch, keep_heads=keep, verify=False)
        parts[keep] = torch.load(output)["model"]
    assert torch.equal(torch.as_tensor(parts[True][kept]), state[kept])
    assert len(parts[False]) == sum(".timm." in key for key in state)
    assert len(parts[True]) == sum(tensor.is_floating_point() for tensor in state.values())


def test_kept_heads_arrive_bit_by_bit_and_only_what_does_not_fit_is_drawn(
    given: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    path, source = given
    report = convert_checkpoint(path, tmp_path / "kept.pth", keep_heads=True)
    assert report.worst_error < 1e-4  # the proof of the backbone holds with the heads beside it
    model, checkpointer = loaded(config(str(tmp_path / "kept.pth")))
    assert checkpointer.absent == set()
    state = source.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    found = heads_of(model, checkpointer.absent)
    assert not found["drawn"]
    assert {"backbone.fpn_lateral2.weight", "roi_heads.box_head.fc1.weight"} <= set(found["loaded"])
    model, checkpointer = loaded(config(str(tmp_path / "kept.pth"), classes=4))
    drawn = heads_of(model, checkpointer.absent)["drawn"]
    assert {name.rsplit(".", 1)[0] for name in drawn} == {
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
    }


def test_without_the_request_the_heads_of_a_detector_are_drawn_as_everywhere(
    given: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    convert_checkpoint(given[0], tmp_path / "backbone.pth", verify=False)
    starts = {}
    for name, weights, seed in (("random", "", 0), ("given", str(tmp_path / "backbone.pth"), 0), ("other", "", 1)):
        model, checkpointer = loaded(config(weights, seed))
        starts[name] = heads_of(model, checkpointer.absent)
    assert starts["given"] == starts["random"]
    assert not starts["given"]["loaded"]
    # Layers that are drawn differ with the seed; those that are set to constants, such as biases, do not.
    differing = {name for name, digest in starts["other"]["drawn"].items() if starts["random"]["drawn"][name] != digest}
    assert {"backbone.fpn_lateral2.weight", "roi_heads.box_head.fc1.weight"} <= differing
    assert not [name for name in starts["given"]["drawn"] if "bottom_up" in name]


def test_the_record_of_a_start(given: tuple[Path, nn.Module], tmp_path: Path) -> None:
    keep_start(given[1], None, str(tmp_path))
    assert read_json(tmp_path / "start.json") == {"format": "clop_det start 1", **heads_of(given[1], None)}


def test_the_job_of_a_comparison_keeps_heads_on_request(given: tuple[Path, nn.Module], tmp_path: Path) -> None:
    for words in ([], ["--keep-heads"]):
        output = tmp_path / f"{len(words)}.pth"
        assert main([str(given[0]), str(output), *words]) == 0
        names = torch.load(output, weights_only=True)["model"]
        assert ("roi_heads.box_head.fc1.weight" in names) == bool(words)


def test_a_backbone_alone_has_no_heads_to_keep(given: tuple[Path, nn.Module], tmp_path: Path) -> None:
    convert_checkpoint(given[0], tmp_path / "backbone.pth", verify=False)
    with pytest.raises(UserError, match=r"backbone\.pth holds no detector in Detectron2's names"):
        convert_checkpoint(tmp_path / "backbone.pth", tmp_path / "again.pth", verify=False, keep_heads=True)
    assert not (tmp_path / "again.pth").exists()
