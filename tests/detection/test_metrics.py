"""Both AP families against Detectron2's own evaluators, and closed forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator
from detectron2.structures import Boxes, Instances
from PIL import Image

from clop_det.annotations.datasets import class_names, load_dataset, register_datasets
from clop_det.detection.coco_metric import coco_metrics
from clop_det.detection.ground_truth import ground_truth, join_detections, pack_instances
from clop_det.detection.voc_metric import voc_metrics
from tests.detection.conftest import CLASSES, voc_xml

Truth = list[tuple[int, tuple[int, ...]]]


def random_truth(rng: np.random.Generator) -> Truth:
    """0 to 6 boxes in a 100 x 80 image, pixel indices from 1, corners included."""
    boxes = []
    for _ in range(rng.integers(0, 7)):
        x, y = int(rng.integers(1, 70)), int(rng.integers(1, 60))
        corner = (x + int(rng.integers(5, 30)), y + int(rng.integers(5, 20)))
        boxes.append((int(rng.integers(len(CLASSES))), (x, y, *corner)))
    return boxes


def random_detections(rng: np.random.Generator, truth: Truth, count: int) -> Instances:
    """Disturbed copies of the true boxes and strays, with scores that tie when rounded, by falling score."""
    boxes, labels = [], []
    for _ in range(int(rng.integers(0, count))):
        label, box = truth[rng.integers(len(truth))] if truth and rng.random() < 0.8 else (0, (5, 5, 40, 40))
        boxes.append(np.array(box) + rng.normal(0, 3, 4) - [1, 1, 0, 0])
        labels.append(label if rng.random() < 0.8 else int(rng.integers(len(CLASSES))))
    instances = Instances((80, 100))
    corners = torch.tensor(np.array(boxes), dtype=torch.float32).reshape(-1, 4)
    corners = torch.cat(
        [torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])], 1
    )
    instances.pred_boxes = Boxes(corners)
    instances.scores = torch.tensor(np.sort(np.round(rng.random(len(boxes)), 2))[::-1].copy(), dtype=torch.float32)
    instances.pred_classes = torch.tensor(labels, dtype=torch.int64)
    return instances


def write_voc(root: Path, truths: list[Truth], hard: set[int]) -> None:
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    names = [f"im{i:04d}" for i in range(len(truths))]
    for i, (name, boxes) in enumerate(zip(names, truths, strict=True)):
        (root / "Annotations" / f"{name}.xml").write_text(voc_xml(name, 100, 80, boxes, int(i in hard)))
        Image.new("RGB", (100, 80)).save(root / "JPEGImages" / f"{name}.jpg")
    (root / "ImageSets" / "Main" / "test.txt").write_text("\n".join(names))


def predict(records: list[dict[str, Any]], truths: list[Truth], seed: int, count: int = 30) -> list[Instances]:
    rng = np.random.default_rng(seed)
    return [random_detections(rng, truth, count) for _, truth in zip(records, truths, strict=True)]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("year", "family"), [(2007, "voc07"), (2012, "voc12")])
def test_voc_equals_detectron2(tmp_path: Path, seed: int, year: int, family: str) -> None:
    rng = np.random.default_rng(seed)
    truths = [random_truth(rng) for _ in range(25)]
    write_voc(tmp_path, truths, hard={1, 5, 9})
    name = f"voc_{year}_{seed}"
    register_datasets([{"NAME": name, "LAYOUT": "voc", "ROOT": str(tmp_path), "SPLIT": "test", "YEAR": year}])
    records = load_dataset(name)
    outputs = predict(records, truths, seed + 10)
    evaluator = PascalVOCDetectionEvaluator(name)
    evaluator.reset()
    evaluator.process(records, [{"instances": o} for o in outputs])
    expected = evaluator.evaluate()["bbox"]
    found = join_detections({i: pack_instances(o) for i, o in enumerate(outputs)})
    figures = voc_metrics(ground_truth(records, class_names(name)), found)[0][family]
    assert expected["AP50"] > 5  # a comparison of zeros would show nothing
    for key in ("AP", "AP50", "AP75"):
        assert figures[key] == pytest.approx(expected[key], abs=1e-9)


def coco_set(path: Path, truths: list[Truth], crowds: bool) -> None:
    rng = np.random.default_rng(0)
    images = [{"id": 100 + i, "file_name": f"{i}.jpg", "width": 100, "height": 80} for i in range(len(truths))]
    annotations: list[dict[str, Any]] = []
    for i, truth in enumerate(truths):
        for label, (x1, y1, x2, y2) in truth:
            box = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
            crowd = int(crowds and rng.random() < 0.2)
            entry = {"id": len(annotations) + 1, "image_id": 100 + i, "category_id": 7 * label + 3, "bbox": box}
            annotations.append({**entry, "iscrowd": crowd, "area": 0.8 * box[2] * box[3]})
    categories = [{"id": 7 * k + 3, "name": name} for k, name in enumerate(CLASSES)]
    path.parent.mkdir(parents=True)
    for image in images:
        Image.new("RGB", (100, 80)).save(path.parents[1] / image["file_name"])
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories}))


@pytest.mark.parametrize(("seed", "crowds", "count"), [(0, False, 30), (1, True, 30), (2, True, 250)])
def test_coco_equals_detectron2(tmp_path: Path, seed: int, crowds: bool, count: int) -> None:
    rng = np.random.default_rng(seed)
    truths = [random_truth(rng) for _ in range(12)]
    truths[3] = []
    coco_set(tmp_path / "annotations" / "instances_test.json", truths, crowds)
    name = f"coco_{seed}"
    register_datasets([{"NAME": name, "LAYOUT": "coco", "ROOT": str(tmp_path), "SPLIT": "test"}])
    records = load_dataset(name)
    outputs = predict(records, truths, seed + 5, count)
    evaluator = COCOEvaluator(name, distributed=False, use_fast_impl=False)
    evaluator.reset()
    evaluator.process(records, [{"instances": o} for o in outputs])
    expected = evaluator.evaluate()["bbox"]
    found = join_detections({i: pack_instances(o) for i, o in enumerate(outputs)})
    figures = coco_metrics(ground_truth(records, class_names(name)), found)
    assert expected["AP50"] > 5
    for key, value in expected.items():
        assert np.isnan(value) if key not in figures else figures[key] == pytest.approx(value, abs=1e-9), key


@pytest.fixture(autouse=True, scope="module")
def _forget() -> Any:
    before = set(DatasetCatalog.keys())
    yield
    for name in set(DatasetCatalog.keys()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
