"""A tiny detection set in both layouts, and a config that trains on it in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from detectron2.config import CfgNode
from PIL import Image

from clop_det.annotations.datasets import register_datasets, set_num_classes
from clop_det.commands.train import main
from clop_det.config.reading import read_config
from tests.detection.runs import CONFIG, command
from tests.unrendered import unrendered

CLASSES = ("disc", "square", "triangle")
SIZES = [(64, 48), (48, 64), (64, 64)]  # width, height


Boxes = list[tuple[int, tuple[int, ...]]]


def draw_scene(rng: np.random.Generator, width: int, height: int) -> tuple[np.ndarray, Boxes]:
    """A noisy image with two coloured boxes; each box is (class index, (xmin, ymin, xmax, ymax)) from 1, inclusive."""
    pixels = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    boxes = []
    for half in (0, width // 2):
        label = int(rng.integers(len(CLASSES)))
        side = int(rng.integers(14, 22))
        x, y = half + int(rng.integers(0, width // 2 - side + 1)), int(rng.integers(0, height - side))
        pixels[y : y + side, x : x + side, label] = 220
        boxes.append((label, (x + 1, y + 1, x + side, y + side)))
    return pixels, boxes


def voc_xml(name: str, width: int, height: int, boxes: Boxes, difficult: int = 0) -> str:
    objects = "".join(
        f"<object><name>{CLASSES[label]}</name><pose>Unspecified</pose><truncated>0</truncated>"
        f"<difficult>{difficult}</difficult><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin><xmax>{b[2]}</xmax>"
        f"<ymax>{b[3]}</ymax></bndbox></object>"
        for label, b in boxes
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}.png</filename>{size}{objects}</annotation>"


@pytest.fixture(autouse=True)
def _unrendered() -> Iterator[None]:
    """Runs of single tests; those that tests share are drawn."""
    with unrendered():
        yield


@pytest.fixture(scope="session")
def shapes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOC folders and COCO JSON over the same images: 12 to train on, 6 to test on."""
    root = tmp_path_factory.mktemp("shapes")
    for part in ("JPEGImages", "Annotations", "ImageSets/Main", "annotations"):
        (root / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 6)):
        names, images, annotations = [], [], []
        for i in range(count):
            name, (width, height) = f"{split}_{i:02d}", SIZES[i % 3]
            pixels, boxes = draw_scene(rng, width, height)
            Image.fromarray(pixels).save(root / "JPEGImages" / f"{name}.png")
            (root / "Annotations" / f"{name}.xml").write_text(voc_xml(name, width, height, boxes))
            names.append(name)
            images.append({"id": i + 1, "file_name": f"{name}.png", "width": width, "height": height})
            for label, (x1, y1, x2, y2) in boxes:
                box = [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1]
                entry = {"image_id": i + 1, "category_id": 10 * (label + 1), "bbox": box, "iscrowd": 0}
                annotations.append({**entry, "id": len(annotations) + 1, "area": box[2] * box[3], "segmentation": []})
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        categories = [{"id": 10 * (k + 1), "name": name, "supercategory": "none"} for k, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="session")
def crops_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of classes for the probes: 10 + 5 images a class."""
    root = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(1)
    for split, count in (("train", 10), ("val", 5)):
        for k, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
                pixels[8:24, 8:24, k] = 220
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def entries(root: Path, layout: str, prefix: str = "shapes") -> list[dict[str, str]]:
    return [
        {"NAME": f"{prefix}_{layout}_{split}", "LAYOUT": layout, "ROOT": str(root), "SPLIT": split}
        for split in ("train", "test")
    ]


@pytest.fixture(scope="session")
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of the tests' own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOP_DET_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_options(shapes_root: Path, crops_root: Path, cache_folder: Path) -> list[str]:
    """KEY VALUE pairs of a detector that trains in a second, on the VOC layout."""
    options = {
        "DATASETS.REGISTER": entries(shapes_root, "voc"),
        "DATASETS.TRAIN": ("shapes_voc_train",),
        "DATASETS.TEST": ("shapes_voc_test",),
        "CLASSIFICATION.ROOT": str(crops_root),
        "MODEL.DEVICE": "cpu",
        "MODEL.FPN.OUT_CHANNELS": 16,
        "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
        "MODEL.RPN.CONV_DIMS": [16],
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 50,
        "MODEL.RPN.PRE_NMS_TOPK_TEST": 50,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 20,
        "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
        "INPUT.MIN_SIZE_TRAIN": (48, 64),
        "INPUT.MIN_SIZE_TEST": 64,
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.BASE_LR": 0.002,
        "SOLVER.MAX_ITER": 6,
        "SOLVER.CHECKPOINT_PERIOD": 3,
        "SOLVER.WARMUP_ITERS": 2,
        "SOLVER.PRECISION": "fp32",
        "TEST.EVAL_PERIOD": 3,
        "TEST.KEEP_BEST": "",
    }
    return [str(word) for item in options.items() for word in item]


@pytest.fixture
def tiny_cfg(tiny_options: list[str], tmp_path: Path) -> CfgNode:
    """The config of `tiny_options`, data sets registered, not frozen."""
    cfg = read_config(CONFIG, [*tiny_options, "OUTPUT_DIR", str(tmp_path / "run")])
    cfg.defrost()
    register_datasets(cfg.DATASETS.REGISTER)
    set_num_classes(cfg)
    return cfg


@pytest.fixture(scope="session")
def finished(tiny_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six iterations that nothing disturbed."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main(command(tiny_options, folder)) == 0
    return folder
