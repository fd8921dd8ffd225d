from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO folder: 16 images of 60 x 48 pixels with four squares each, red, green or blue by class."""
    root = tmp_path_factory.mktemp("scenes")
    source = np.random.default_rng(0)
    (root / "annotations").mkdir()
    (root / "images").mkdir()
    images, boxes = [], []
    for index in range(16):
        pixels = source.integers(0, 60, (48, 60, 3), dtype=np.uint8)
        for k in range(4):
            side, label = int(source.integers(8, 20)), int(source.integers(3))
            x, y = 30 * (k % 2) + int(source.integers(0, 30 - side)), 24 * (k // 2) + int(source.integers(0, 24 - side))
            pixels[y : y + side, x : x + side, label] = 230
            boxes.append({"id": len(boxes) + 1, "image_id": index, "category_id": label + 1, "bbox": [x, y, side, side],
                          "area": side * side, "iscrowd": 0})  # fmt: skip
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        images.append({"id": index, "file_name": f"{index}.png", "width": 60, "height": 48})
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(("red", "green", "blue"))]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return root
