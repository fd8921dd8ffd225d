from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from clop_det import api
from clop_det.errors import UserError
from clop_det.ranking.early import FINE_TUNED, JUDGED, early_ap
from clop_det.ranking.ranking import Ranking
from clop_det.ranking.rule import Standing


@pytest.fixture(scope="module")
def config(scenes_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small detector on the scenes; the images of its test set do not exist."""
    root = tmp_path_factory.mktemp("config")
    entry = {"NAME": "a", "LAYOUT": "coco", "ROOT": str(scenes_root), "SPLIT": "train"}
    gone = {"NAME": "b", "LAYOUT": "coco", "ROOT": str(root / "gone"), "SPLIT": "test"}
    content = {
        "_BASE_": "detection/digits/Base-digits.yaml",
        "DATASETS": {"REGISTER": [entry, gone], "TRAIN": ["a"], "TEST": ["b"]},
        "INPUT": {"MIN_SIZE_TRAIN": [64], "MIN_SIZE_TEST": 64, "MAX_SIZE_TRAIN": 64, "MAX_SIZE_TEST": 64},
        "SOLVER": {"MAX_ITER": 12, "WARMUP_ITERS": 3, "IMS_PER_BATCH": 2},
        "SEED": 0,
    }
    (root / "detect.yaml").write_text(yaml.safe_dump(content))
    return root / "detect.yaml"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, paths = tmp_path_factory.mktemp("checkpoints"), []
    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        paths.append(folder / f"{name}.pth")
        torch.save(torchvision.models.resnet18().state_dict(), paths[-1])
    return paths


def ranked(checkpoints: list[Path]) -> Ranking:
    standings = [Standing(path.stem, 1.0 - k, float(k), 0.0) for k, path in enumerate(checkpoints)]
    return Ranking(standings, {}, {}, [], {}, (64, 16), {path.stem: path for path in checkpoints})


class FineTuning:
    """Writes results, notes the configs."""

    def __init__(self) -> None:
        self.configs: list[CfgNode] = []

    def __call__(self, cfg: CfgNode, resume: bool) -> Mapping[str, float]:
        self.configs.append(cfg)
        Path(cfg.OUTPUT_DIR).mkdir(parents=True)
        metrics = {"bbox/AP": 10.0 * len(self.configs)}
        (Path(cfg.OUTPUT_DIR) / "results.json").write_text(json.dumps({"metrics": metrics}))
        return metrics


def test_a_tenth_of_the_schedule_on_two_parts_of_the_training_images(
    config: Path, checkpoints: list[Path], tmp_path: Path
) -> None:
    run = FineTuning()
    found, failed = early_ap(ranked(checkpoints), 1, str(config), [], tmp_path, run, lambda line: None)
    assert (found, failed) == ({"one": 10.0}, {})
    assert (run.configs[0].SOLVER.MAX_ITER, run.configs[0].SOLVER.WARMUP_ITERS) == (2, 1)
    assert run.configs[0].DATASETS.TEST == (JUDGED,)
    trained, judged = ({record["file_name"] for record in DatasetCatalog.get(name)} for name in (FINE_TUNED, JUDGED))
    assert (len(trained), len(judged), len(trained | judged)) == (13, 3, 16)
    more, _ = early_ap(ranked(checkpoints), 2, str(config), [], tmp_path, run, lambda line: None)
    assert more == {"one": 10.0, "other": 20.0}  # the first was kept


def test_a_detector_is_really_fine_tuned(config: Path, checkpoints: list[Path], tmp_path: Path) -> None:
    def fine_tune(cfg: CfgNode, resume: bool) -> Mapping[str, float]:
        return api.finetune(cfg, launch=api.Launch(resume=resume)).figures

    found, failed = early_ap(ranked(checkpoints), 1, str(config), [], tmp_path, fine_tune, lambda line: None)
    assert failed == {}
    assert 0 <= found["one"] <= 100
    (results,) = (tmp_path / "early").glob("*/results.json")
    assert json.loads(results.read_text())["iterations"] == 2


def test_a_folder_has_no_schedule_and_few_images_are_refused(
    config: Path, scenes_root: Path, checkpoints: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="give a detection config"):
        early_ap(ranked(checkpoints), 1, str(scenes_root), [], tmp_path, FineTuning(), lambda line: None)
    few = ["DATASETS.TRAIN_FRACTION", "0.5"]
    with pytest.raises(UserError, match="8 training images"):
        early_ap(ranked(checkpoints), 1, str(config), few, tmp_path, FineTuning(), lambda line: None)
