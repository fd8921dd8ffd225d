"""Weights and data for a run that is healthy; no test leaves them changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clop_det.conversion.convert import convert_checkpoint
from tests.conversion.samples import random_network, write_sample


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    convert_checkpoint(write_sample("clop_det", random_network("resnet18"), folder), folder / "d2.pth", verify=False)
    content = torch.load(folder / "d2.pth", weights_only=True)
    content["provenance"]["verified"] = True  # the proof has tests of its own
    torch.save(content, folder / "d2.pth")
    (folder / "d2.pth.sha256").unlink()
    return folder / "d2.pth"


def _picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO-style data set of eight images in two splits, and a folder of classes."""
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    (root / "annotations").mkdir()
    for split, start in (("train", 1), ("val", 7)):
        images = [{"id": i, "file_name": f"{i}.png", "height": 32, "width": 32} for i in range(start, start + 6)]
        boxes = [{"id": i["id"], "image_id": i["id"], "category_id": 1 + i["id"] % 2, "bbox": [4, 4, 9, 9], "area": 81,
                  "iscrowd": 0} for i in images]  # fmt: skip
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        for image in images:
            _picture(image["id"]).save(root / "images" / image["file_name"])
        for name in ("cat", "dog"):
            (root / "classes" / split / name).mkdir(parents=True)
            _picture(20 + start + len(name)).save(root / "classes" / split / name / "0.png")
    return root
