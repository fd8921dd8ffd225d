"""Every config parses and its model builds; the VOC protocol's numbers are those of the published one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode, instantiate
from detectron2.modeling import build_model
from torch import nn

import clop_det.detection.roi_heads  # noqa: F401  (registers Res5ROIHeadsExtraNorm)
from clop_det.annotations.datasets import load_dataset, register_datasets
from clop_det.backbones.registry import family_of_detector
from clop_det.config.files import flatten
from clop_det.config.reading import read_config
from clop_det.conversion.loading import backbone_keys
from clop_det.detection.config_check import check_config
from clop_det.detection.scaling import fit_to_processes

ROOT = Path(__file__).resolve().parents[2] / "configs" / "detection"
CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.yaml"))
# What a config's name says of a network of timm.
NAMES = {
    "timm:convnext_atto": ("ConvNeXt_atto_FPN",),
    "timm:convnext_tiny": ("ConvNeXt_T_FPN",),
    "timm:swin_tiny": ("Swin_T_FPN",),
    "timm:vit_tiny": ("vitdet_ViT_tiny",),
    "timm:vit_small": ("vitdet_ViT_S",),
    "timm:vit_base": ("vitdet_ViT_B",),
}
RUNNABLE = [name for name in CONFIGS if not Path(name).name.startswith("Base-")]


def read(name: str, *options: str) -> CfgNode:
    cfg = read_config(str(ROOT / name), options)
    cfg.defrost()
    return cfg


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_model_builds(name: str) -> None:
    cfg = read(name)
    for node in (cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET):
        node.NUM_CLASSES = node.NUM_CLASSES or 4
    fit_to_processes(cfg, 1)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    # The number of tensors of a torchvision checkpoint, without counters; of timm's networks their state_dict's.
    expected = {
        "": {18: 100, 50: 265}[cfg.MODEL.RESNETS.DEPTH], "timm:convnext_atto": 126, "timm:convnext_tiny": 180,
        "timm:swin_tiny": 171,
    }.get(cfg.MODEL.TIMM.ARCH.split("_patch")[0], 150)  # fmt: skip
    assert len(backbone_keys(model, family_of_detector(model))) == expected


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_config_suits_torch_weights_and_is_named_after_its_folder(name: str) -> None:
    cfg = read(name)
    assert cfg.INPUT.FORMAT == "RGB"
    assert list(cfg.MODEL.PIXEL_MEAN) == [123.675, 116.280, 103.530]
    assert list(cfg.MODEL.PIXEL_STD) == [58.395, 57.120, 57.375]
    assert cfg.MODEL.RESNETS.STRIDE_IN_1X1 is False
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 0
    assert cfg.MODEL.RESNETS.NORM in ("BN", "SyncBN", "naiveSyncBN")
    assert cfg.SEED >= 0
    assert any(part in name for part in NAMES.get(cfg.MODEL.TIMM.ARCH.split("_patch")[0], ())) or (
        not cfg.MODEL.TIMM.ARCH and f"R_{cfg.MODEL.RESNETS.DEPTH}_" in name
    )
    assert cfg.DATASETS.TRAIN
    assert cfg.DATASETS.TEST
    assert not any(str(value).startswith("/") for key, value in flatten(cfg) if "ROOT" in key or "DIR" in key)


def test_the_voc_protocol_number_by_number() -> None:
    cfg = read("voc/faster_rcnn_R_50_C4_voc0712_24k.yaml")
    assert cfg.DATASETS.TRAIN == ("voc_2007_trainval", "voc_2012_trainval")
    assert cfg.DATASETS.TEST == ("voc_2007_test",)
    solver = cfg.SOLVER
    assert (solver.MAX_ITER, solver.STEPS, solver.BASE_LR, solver.IMS_PER_BATCH) == (24000, (18000, 22000), 0.02, 16)
    assert (solver.WARMUP_ITERS, solver.MOMENTUM, solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_NORM) == (100, 0.9, 1e-4, 0)
    assert solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR"
    assert solver.GAMMA == 0.1
    assert solver.REFERENCE_WORLD_SIZE == 8
    assert (cfg.INPUT.FORMAT, cfg.MODEL.RESNETS.STRIDE_IN_1X1) == ("RGB", False)
    assert list(cfg.INPUT.MIN_SIZE_TRAIN) == list(range(480, 801, 32))
    assert (cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST) == (1333, 800)
    assert (cfg.MODEL.RPN.PRE_NMS_TOPK_TEST, cfg.MODEL.RPN.POST_NMS_TOPK_TEST) == (6000, 1000)
    assert cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeadsExtraNorm"
    assert cfg.MODEL.RESNETS.NORM == "naiveSyncBN"
    assert cfg.MODEL.BACKBONE.FREEZE_AT == 0
    assert (cfg.TEST.PRECISE_BN.ENABLED, cfg.TEST.PRECISE_BN.NUM_ITER) == (True, 200)
    assert cfg.MODEL.MASK_ON is False
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 20
    assert cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE == 512
    assert solver.PRECISION == "fp32"


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("voc/faster_rcnn_R_50_C4_voc07_9k", "voc/faster_rcnn_R_50_C4_voc0712_24k"),
        ("voc/faster_rcnn_R_18_FPN_voc07_9k", "voc/faster_rcnn_R_18_FPN_voc0712_24k"),
        ("voc/faster_rcnn_R_18_FPN_voc0712_24k", "voc/faster_rcnn_R_50_FPN_voc0712_24k"),
        ("coco/faster_rcnn_R_18_FPN_coco_1x", "coco/faster_rcnn_R_50_FPN_coco_1x"),
        ("coco/mask_rcnn_R_18_FPN_coco_1x", "coco/mask_rcnn_R_50_FPN_coco_1x"),
        ("coco/mask_rcnn_R_50_FPN_coco_2x", "coco/mask_rcnn_R_50_FPN_coco_1x"),
        ("coco/mask_rcnn_R_50_C4_coco_2x", "coco/mask_rcnn_R_50_C4_coco_1x"),
    ],
)
def test_variants_differ_in_what_their_names_say_alone(name: str, same_as: str) -> None:
    one, other = (dict(flatten(read(f"{config}.yaml"))) for config in (name, same_as))
    allowed = {"OUTPUT_DIR"}
    if "R_18" in name and "R_50" in same_as:
        allowed |= {"MODEL.RESNETS.DEPTH", "MODEL.RESNETS.RES2_OUT_CHANNELS"}
    else:
        schedule = {"SOLVER.STEPS", "SOLVER.MAX_ITER", "SOLVER.CHECKPOINT_PERIOD"}
        allowed |= {"DATASETS.TRAIN", "TEST.EVAL_PERIOD", *schedule}
    assert {key for key in one if one[key] != other[key]} <= allowed


def test_pyramid_and_heads_of_vitdet_are_those_of_detectron2s_own() -> None:
    def shapes(model: nn.Module) -> dict[str, torch.Size]:
        return {name: t.shape for name, t in model.state_dict().items() if not name.startswith("backbone.net.")}

    cfg = read("coco/mask_rcnn_vitdet_ViT_B_coco_1x.yaml", "MODEL.DEVICE", "meta")
    stock = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model
    stock.backbone.net.update(depth=1, window_block_indexes=[])  # the pyramid and the heads alone are compared
    with torch.device("meta"):
        ours = build_model(cfg)
    assert shapes(ours) == shapes(instantiate(stock))


def test_retinanet_is_the_papers_head_with_half_the_learning_rate() -> None:
    cfg = read("coco/retinanet_R_50_FPN_coco_1x.yaml")
    assert (cfg.SOLVER.MAX_ITER, tuple(cfg.SOLVER.STEPS), cfg.SOLVER.BASE_LR) == (90000, (60000, 80000), 0.01)
    assert (cfg.MODEL.RETINANET.NUM_CONVS, cfg.MODEL.RETINANET.NORM, cfg.MODEL.FPN.NORM) == (4, "", "SyncBN")
    assert [len(sizes) for sizes in cfg.MODEL.ANCHOR_GENERATOR.SIZES] == [3] * 5


@pytest.fixture(scope="module")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Digits for the whole module: a data set registered twice by one address is read once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOP_DET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.usefixtures("_cache")
@pytest.mark.parametrize("name", [name for name in RUNNABLE if read(name).DATASETS.REGISTER])
def test_data_given_by_path_is_where_the_config_says(name: str, request: pytest.FixtureRequest) -> None:
    cfg = read(name)
    entries = [dict(entry) for entry in cfg.DATASETS.REGISTER]
    for entry in entries:
        if entry["ROOT"] == "digits://scenes":
            entry["ROOT"] += "?train=3&val=1&test=2&size=96"
        else:
            entry["ROOT"] = str(request.getfixturevalue("real_data") / Path(entry["ROOT"]).name)
    register_datasets(entries)
    for data_set in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        records = load_dataset(data_set, masked=cfg.MODEL.MASK_ON)
        assert all(Path(record["file_name"]).is_file() for record in records)
        boxes = [entry for record in records for entry in record["annotations"]]
        assert len(boxes) > 4
        assert not cfg.MODEL.MASK_ON or all(entry["segmentation"] for entry in boxes)


@pytest.mark.parametrize("name", [name for name in RUNNABLE if name.startswith("quick_schedules/")])
def test_quick_schedules_expect_what_a_detector_that_has_not_learnt_misses(name: str) -> None:
    cfg = read(name, "MODEL.DEVICE", "cpu")
    check_config(cfg)
    assert cfg.TEST.EXPECTED_RESULTS
    assert all(value > tolerance for _, _, value, tolerance in cfg.TEST.EXPECTED_RESULTS)


@pytest.mark.parametrize(("times", "iterations", "steps"), [(1, 90000, (60000, 80000)), (2, 180000, (120000, 160000))])
@pytest.mark.parametrize(
    "kind", ["mask_rcnn_R_50_C4", "faster_rcnn_R_50_C4", "mask_rcnn_R_50_FPN", "faster_rcnn_R_50_FPN"]
)
def test_the_coco_protocols_number_by_number(kind: str, times: int, iterations: int, steps: tuple[int, int]) -> None:
    cfg = read(f"coco/{kind}_coco_{times}x.yaml")
    solver = cfg.SOLVER
    assert (solver.MAX_ITER, tuple(solver.STEPS)) == (iterations, steps)
    assert solver.WARMUP_ITERS == 1000
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.IMS_PER_BATCH) == (0.02, 16)
    assert list(cfg.INPUT.MIN_SIZE_TRAIN) == list(range(640, 801, 32))
    assert cfg.MODEL.MASK_ON is kind.startswith("mask")
    assert cfg.TEST.PRECISE_BN.ENABLED is True
    if "FPN" in kind:
        assert cfg.MODEL.FPN.NORM == cfg.MODEL.RESNETS.NORM == "SyncBN"
        assert (cfg.MODEL.ROI_BOX_HEAD.NORM, cfg.MODEL.ROI_MASK_HEAD.NORM) == ("", "")  # norm there: another benchmark
        assert (cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.NUM_CONV) == (2, 0)
    else:
        assert cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeadsExtraNorm"
