"""Every value that a run cannot honour is one UserError, before anything is written."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from clop_det.commands.train import main
from clop_det.detection.config_check import check_config, config_checks, fetch_weights
from clop_det.detection.scaling import fit_to_processes
from clop_det.errors import UserError
from tests.detection.runs import CONFIG


def set_key(cfg: CfgNode, key: str, value: Any) -> None:
    node = cfg
    *groups, last = key.split(".")
    for group in groups:
        node = node[group]
    node[last] = value


BAD = [
    ("SEED", -1, "SEED is -1"),
    ("SOLVER.MAX_ITER", 0, "SOLVER.MAX_ITER is 0"),
    ("SOLVER.CHECKPOINT_PERIOD", 0, "SOLVER.CHECKPOINT_PERIOD is 0"),
    ("SOLVER.KEEP_CHECKPOINTS", 0, "SOLVER.KEEP_CHECKPOINTS is 0"),
    ("SOLVER.IMS_PER_BATCH", 0, "SOLVER.IMS_PER_BATCH is 0"),
    ("TEST.IMS_PER_BATCH", 0, "TEST.IMS_PER_BATCH is 0"),
    ("DATALOADER.NUM_WORKERS", -1, "DATALOADER.NUM_WORKERS is -1"),
    ("SOLVER.LR_SCHEDULER_NAME", "Cosine", "LR_SCHEDULER_NAME is 'Cosine'.*WarmupCosineLR"),
    ("SOLVER.WARMUP_METHOD", "slow", "slow"),
    ("SOLVER.REFERENCE_WORLD_SIZE", -1, "REFERENCE_WORLD_SIZE is -1"),
    ("SOLVER.STEPS", (4, 2), r"STEPS \(4, 2\).*must rise"),
    ("SOLVER.STEPS", (2, 6), r"STEPS \(2, 6\).*below MAX_ITER"),
    ("SOLVER.STEPS", ("four",), "STEPS"),
    ("INPUT.MIN_SIZE_TRAIN", (), r"INPUT.MIN_SIZE_TRAIN is \(\)"),
    ("INPUT.MIN_SIZE_TRAIN", ("48",), "INPUT.MIN_SIZE_TRAIN"),
    ("INPUT.MIN_SIZE_TRAIN_SAMPLING", "any", "any"),
    ("INPUT.RANDOM_FLIP", "sideways", "sideways"),
    ("PROBE.KNN.K", (), r"PROBE.KNN.K is \(\)"),
    ("PROBE.KNN.K", (0,), r"PROBE.KNN.K is \(0,\)"),
    ("PROBE.KNN.TEMPERATURE", 0.0, "PROBE.KNN.TEMPERATURE is 0"),
    ("PROBE.BATCH_SIZE", 0, "PROBE.BATCH_SIZE is 0"),
    ("PROBE.TASKS", ("knn", "lineal"), "names the probe 'lineal'.*Did you mean linear"),
    ("TEST.KEEP_BEST", "bbox/Ap", r"TEST\.KEEP_BEST is 'bbox/Ap'.*Did you mean bbox/AP\?"),
    ("TEST.KEEP_BEST", "probe/embedding_rankme", "which no evaluation gives here"),
    ("TEST.KEEP_BEST", "segm/AP", "which no evaluation gives here"),  # a detector without masks
    ("TEST.KEEP_BEST", "voc07/APs", "which no evaluation gives here"),
    ("TEST.KEEP_BEST", "shapes_voc_test/bbox/AP", "Others are bbox/AP, "),  # the only test set
    ("MODEL.DEVICE", "gpu", "MODEL.DEVICE is 'gpu'"),
    ("SOLVER.PRECISION", "fp8", "fp8"),
    ("TEST.EXPECTED_RESULTS", [[3, "AP", 3.0, 1.0]], r"\[task, metric, value, tolerance\]"),
    ("TEST.EXPECTED_RESULTS", [["bbox", "AP", "3", 1.0]], r"\[task, metric, value, tolerance\]"),
    ("TEST.EXPECTED_RESULTS", [["bbox", "AP", 3.0]], r"\[task, metric, value, tolerance\]"),
    ("TEST.EXPECTED_RESULTS", ["bbox"], r"\[task, metric, value, tolerance\]"),
    ("SOLVER.ACCUMULATE", 2, "SOLVER.ACCUMULATE is 2, but .* Leave it at 1"),
    ("SOLVER.LR_SCALING", "linear", "SOLVER.REFERENCE_WORLD_SIZE"),
    ("SOLVER.MAX_SKIPPED", 3, "SOLVER.MAX_SKIPPED is 3"),
    ("SOLVER.CHANNELS_LAST", False, "SOLVER.CHANNELS_LAST is False"),
    ("SOLVER.COMPILE", True, "SOLVER.COMPILE is True"),
    ("SOLVER.OPTIMIZER", "LARS", "SOLVER.OPTIMIZER is 'LARS'"),
    ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", "equally often.*'TrainingSampler'"),
    ("TEST.AUG.ENABLED", True, "TEST.AUG.ENABLED is True"),
    ("MODEL.KEYPOINT_ON", True, "MODEL.KEYPOINT_ON is True"),
    ("MODEL.LOAD_PROPOSALS", True, "MODEL.LOAD_PROPOSALS is True"),
]


@pytest.mark.parametrize(("key", "value", "message"), BAD)
def test_a_bad_value_is_one_user_error(tiny_cfg: CfgNode, key: str, value: Any, message: str) -> None:
    check_config(tiny_cfg, 2)
    set_key(tiny_cfg, key, value)
    with pytest.raises(UserError, match=message):
        check_config(tiny_cfg, 2)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SOLVER.STEPS", (4, 30000)),  # Detectron2 leaves the second out, with a warning
        ("SOLVER.STEPS", ()),
        ("SOLVER.WARMUP_ITERS", 100),
        ("SOLVER.LR_REFERENCE_BATCH", 512),  # means nothing without LR_SCALING, in pretraining either
        ("INPUT.MIN_SIZE_TRAIN", (0,)),  # Detectron2: no resizing
        ("TEST.EXPECTED_RESULTS", (("bbox", "AP", 3, 1),)),
    ],
)
def test_what_detectron2_accepts_stays_accepted(tiny_cfg: CfgNode, key: str, value: Any) -> None:
    set_key(tiny_cfg, key, value)
    check_config(tiny_cfg)


def test_a_schedule_that_is_scaled_down_keeps_its_steps_or_drops_them(tiny_cfg: CfgNode) -> None:
    tiny_cfg.SOLVER.REFERENCE_WORLD_SIZE, tiny_cfg.SOLVER.MAX_ITER, tiny_cfg.SOLVER.STEPS = 1, 90, (60, 80, 200)
    fit_to_processes(tiny_cfg, 4)
    check_config(tiny_cfg, 4)


def test_a_batch_that_the_processes_cannot_share(tiny_cfg: CfgNode) -> None:
    with pytest.raises(UserError, match="3 processes cannot share it evenly. Set SOLVER.IMS_PER_BATCH 3"):
        check_config(tiny_cfg, 3)


@pytest.mark.parametrize(("device", "message"), [("cuda", r"\(0 GPUs\)"), ("cuda:2", r"\(2 GPUs\)")])
def test_gpus_that_are_not_there(tiny_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch, device: str, message: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device != "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    tiny_cfg.MODEL.DEVICE = device
    with pytest.raises(UserError, match=message):
        check_config(tiny_cfg)


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route"), ConnectionResetError("gone"), AssertionError("unknown")]
)
def test_weights_that_cannot_be_downloaded(
    tiny_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def fail(path: str) -> str:
        assert path == "https://example.invalid/R.pkl"
        raise error

    tiny_cfg.MODEL.WEIGHTS = "https://example.invalid/R.pkl?matching_heuristics=True"
    check_config(tiny_cfg)  # asks nobody
    monkeypatch.setattr(PathManager, "get_local_path", fail)
    with pytest.raises(UserError, match="cannot be downloaded"):
        fetch_weights(tiny_cfg)
    monkeypatch.setattr(PathManager, "get_local_path", lambda path: path)
    with pytest.raises(UserError, match="does not know"):
        fetch_weights(tiny_cfg)
    monkeypatch.setattr(PathManager, "get_local_path", lambda path: CONFIG)
    fetch_weights(tiny_cfg)


def test_the_command_refuses_before_the_folder_is_claimed(
    tiny_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--config-file", CONFIG]
    for key, value in (("PROBE.KNN.K", "()"), ("MODEL.WEIGHTS", "nowhere://R.pkl"), ("INPUT.MIN_SIZE_TRAIN", "()")):
        with pytest.raises(UserError, match=key):
            main([*words, *tiny_options, "OUTPUT_DIR", str(tmp_path / "run"), key, value])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match="NCCL"):
        main([*words, "--num-gpus", "2", *tiny_options, "OUTPUT_DIR", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_each_check_has_a_name_of_its_own() -> None:
    names = [name for name, _ in config_checks(1)]
    assert len(set(names)) == len(names)


def test_the_best_checkpoint_may_follow_any_figure_that_an_evaluation_gives(tiny_cfg: CfgNode) -> None:
    for figure in ("bbox/AP-disc", "coco/APs", "voc12/AP75", "probe/linear_top1", "probe/object_rankme"):
        tiny_cfg.TEST.KEEP_BEST = figure
        check_config(tiny_cfg)
    tiny_cfg.DATASETS.TEST = ("a", "b")
    for figure in ("b/bbox/AP", "a/probe/object_knn_top1", "probe/knn_top1"):
        tiny_cfg.TEST.KEEP_BEST = figure
        check_config(tiny_cfg)
    tiny_cfg.TEST.KEEP_BEST = "bbox/AP"
    check_config(tiny_cfg)  # the first set's, which `settle_best` writes into the config
