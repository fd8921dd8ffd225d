"""Detectron2's own names, trained on and evaluated under DETECTRON2_DATASETS: the folders that it prescribes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES

from clop_det.files import read_json
from tests.detection.runs import command

TOOL = str(Path(__file__).resolve().parents[2] / "tools" / "train_net.py")
VOC_NAMES = ("aeroplane", "dog", "tvmonitor")  # in the place of the three shapes
COCO_IDS = (1, 18, 90)  # of 80 categories with ids up to 90: the first, one in the middle, the last
THINGS = [{"id": c["id"], "name": c["name"]} for c in COCO_CATEGORIES if c["isthing"]]


@pytest.fixture
def datasets_root(shapes_root: Path, tmp_path: Path) -> Path:
    """VOC2007 with trainval and test in one folder, and coco with a folder of images a split."""
    voc = tmp_path / "datasets" / "VOC2007"
    shutil.copytree(shapes_root, voc, ignore=shutil.ignore_patterns("annotations"))
    (voc / "ImageSets" / "Main" / "train.txt").rename(voc / "ImageSets" / "Main" / "trainval.txt")
    for file in (voc / "Annotations").glob("*.xml"):
        text = file.read_text()
        for shape, name in zip(("disc", "square", "triangle"), VOC_NAMES, strict=True):
            text = text.replace(f"<name>{shape}</name>", f"<name>{name}</name>")
        file.write_text(text)
    for image in (voc / "JPEGImages").glob("*.png"):
        image.rename(image.with_suffix(".jpg"))  # the only suffix that VOC knows; the content is found out
    coco = tmp_path / "datasets" / "coco"
    (coco / "annotations").mkdir(parents=True)
    for split, folder in (("train", "train2017"), ("test", "val2017")):
        content = json.loads((shapes_root / "annotations" / f"instances_{split}.json").read_text())
        known = sorted(category["id"] for category in content["categories"])
        for entry in content["annotations"]:
            entry["category_id"] = COCO_IDS[known.index(entry["category_id"])]
        (coco / "annotations" / f"instances_{folder}.json").write_text(json.dumps({**content, "categories": THINGS}))
        (coco / folder).mkdir()
        for image in content["images"]:
            shutil.copy(shapes_root / "JPEGImages" / image["file_name"], coco / folder)
    return tmp_path / "datasets"


@pytest.mark.parametrize(
    ("train", "test", "main_family", "classes"),
    [
        ("voc_2007_trainval", "voc_2007_test", "voc07", 20),
        pytest.param("coco_2017_train", "coco_2017_val", "coco", 80, marks=pytest.mark.slow),
    ],
)
def test_a_built_in_data_set_is_trained_on_and_evaluated(
    datasets_root: Path, tiny_options: list[str], tmp_path: Path, train: str, test: str, main_family: str, classes: int
) -> None:
    changes: dict[str, Any] = {
        "DATASETS__REGISTER": [],
        "DATASETS__TRAIN": (train,),
        "DATASETS__TEST": (test,),
        "SOLVER__MAX_ITER": 2,
        "TEST__EVAL_PERIOD": 0,
        "TEST__PICTURES": 1,
    }
    words = [sys.executable, "-W", "ignore", TOOL, *command(tiny_options, tmp_path / "run", **changes)]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(datasets_root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = read_json(tmp_path / "run" / "results.json")["metrics"]
    assert metrics["bbox/AP"] == metrics[f"{main_family}/AP"]
    assert {"voc12/AP50", "coco/AP50", "probe/object_knn_top1"} <= set(metrics)
    assert len([key for key in metrics if key.startswith("voc07/AP-")]) == classes
    checks = read_json(tmp_path / "run" / "annotation_checks.json")
    assert train in json.dumps(checks)
    assert f"training on all 12 images of {train}" in (tmp_path / "run" / "log.txt").read_text()
