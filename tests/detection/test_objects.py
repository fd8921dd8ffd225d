from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from PIL import Image

from clop_det.annotations.datasets import load_dataset
from clop_det.detection.model import build_detector
from clop_det.detection.objects import object_crops, usable_boxes
from clop_det.detection.probing import Probes
from clop_det.engine.seeding import generator
from clop_det.probes.base import IMAGES
from clop_det.probes.encoding import encode_sets
from clop_det.probes.running import build_tasks, run_tasks


def record(path: Path, boxes: list[dict[str, Any]]) -> dict[str, Any]:
    return {"file_name": str(path), "width": 40, "height": 30, "annotations": boxes}


def box(x1: float, y1: float, x2: float, y2: float, label: int = 0, **flags: int) -> dict[str, Any]:
    return {"bbox": [x1, y1, x2, y2], "bbox_mode": 0, "category_id": label, **flags}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """40 x 30, one colour a quadrant."""
    pixels = np.zeros((30, 40, 3), dtype=np.uint8)
    pixels[:15, :20], pixels[:15, 20:], pixels[15:, :20], pixels[15:, 20:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), 9
    Image.fromarray(pixels).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_crops_show_what_is_in_the_box_in_rgb(picture: Path) -> None:
    records = [record(picture, [box(0, 0, 20, 15, 2), box(20, 0, 40, 15, 1), box(0, 15, 20, 30, 0)])]
    images, labels = object_crops(records, 10, 8, torch.Generator())
    assert images.shape == (3, 3, 8, 8)
    assert images.dtype == torch.uint8
    assert labels.tolist() == [2, 1, 0]
    assert images[:, :, 4, 4].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_crowds_difficult_boxes_and_slivers_are_left_out_and_the_rest_cut_to_the_image() -> None:
    boxes = [box(1, 1, 9, 9, iscrowd=1), box(1, 1, 9, 9, difficult=1), box(5, 5, 5, 9), box(39.5, 0, 60, 30)]
    assert usable_boxes(record(Path("x"), [*boxes, box(-3, -3, 99, 10, 4)])) == [(4, (0.0, 0.0, 40.0, 10.0))]


def test_the_limit_is_kept_and_the_choice_is_a_function_of_the_seed(shapes_root: Path, tiny_cfg: CfgNode) -> None:
    records = load_dataset("shapes_voc_train")
    one, other, third = (object_crops(records, 7, 16, generator(seed, "x")) for seed in (0, 0, 1))
    assert len(one[0]) == len(one[1]) == 7
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[0], third[0])
    assert len(object_crops(records, 1000, 16, generator(0, "x"))[1]) == sum(len(r["annotations"]) for r in records)


def test_nothing_to_cut_out_is_an_error(picture: Path) -> None:
    with pytest.raises(ValueError, match="neither a crowd nor difficult"):
        object_crops([record(picture, [box(0, 0, 9, 9, iscrowd=1)])], 5, 8, torch.Generator())


def test_the_probe_is_the_one_of_evaluation_on_the_same_crops(tiny_cfg: CfgNode) -> None:
    tiny_cfg.PROBE.OBJECTS.SIZE = 16
    model = build_detector(tiny_cfg)
    train, test = load_dataset("shapes_voc_train"), load_dataset("shapes_voc_test")
    tiny_cfg.CLASSIFICATION.ROOT = ""
    figures = Probes(tiny_cfg, train, {"": test}).run(model, bf16=False)
    assert model.training
    bank, queries = (
        object_crops(records, tiny_cfg.PROBE.OBJECTS.MAX, 16, generator(tiny_cfg.SEED, purpose))
        for records, purpose in ((train, "object bank"), (test, "object queries"))
    )
    model.eval()

    def encode(images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            normalised = (images.float() - model.pixel_mean) / model.pixel_std
            return model.backbone.bottom_up(normalised)["res5"].mean((2, 3))

    data = encode_sets(encode, bank, queries)
    expected = run_tasks(build_tasks(tiny_cfg), {IMAGES: {"probe/object_": lambda: data}})
    assert figures == pytest.approx(expected, rel=1e-5)  # probes run folded convolutions: another order of sums
    assert figures["probe/object_knn_top1"] > 0  # coloured squares on noise
