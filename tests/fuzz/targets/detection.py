"""Detection data: VOC and COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from clop_det.annotations.datasets import forget, load_dataset, register_datasets
from tests.fuzz.mutations import mutated_bytes, mutated_json
from tests.fuzz.targets.target import Target


def prepare_voc(folder: Path) -> Target:
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(folder / "JPEGImages" / "a.jpg")
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    objects = "".join(
        f"<object><name>{name}</name><difficult>{k}</difficult><truncated>0</truncated><bndbox><xmin>{1 + k}</xmin>"
        f"<ymin>2</ymin><xmax>{20 + k}</xmax><ymax>25</ymax></bndbox></object>"
        for k, name in enumerate(("cat", "dog"))
    )
    size = "<size><width>40</width><height>30</height></size>"
    text = f"<?xml version='1.0'?><annotation><filename>a.jpg</filename>{size}{objects}</annotation>"
    (folder / "Annotations" / "a.xml").write_text(text)
    entry = {"NAME": "fuzzed_voc", "LAYOUT": "voc", "ROOT": str(folder), "SPLIT": "train", "CLASSES": ["cat", "dog"]}
    files = [("Annotations/a.xml", mutated_bytes)] * 4 + [("ImageSets/Main/train.txt", mutated_bytes)]
    return Target(files, lambda _: load_registered(entry))


def prepare_coco(folder: Path) -> Target:
    (folder / "images").mkdir()
    Image.new("RGB", (40, 30)).save(folder / "images" / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog", "supercategory": "animal"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 12], "area": 120, "iscrowd": 0},
            {
                **{"id": 2, "image_id": 1, "category_id": 7, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0},
                "segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]],
            },
            {
                **{"id": 3, "image_id": 1, "category_id": 7, "bbox": [0, 0, 4, 3], "area": 12, "iscrowd": 1},
                "segmentation": {"size": [30, 40], "counts": [0, 3, 27, 3, 1167]},
            },
        ],
    }
    (folder / "a.json").write_text(json.dumps(content))
    entry = {"NAME": "fuzzed_coco", "LAYOUT": "coco", "ROOT": str(folder), "JSON": "a.json", "IMAGE_DIR": "images"}
    return Target([("a.json", mutated_json)], lambda _: load_registered(entry))


def load_registered(entry: dict[str, Any]) -> None:
    try:
        register_datasets([entry])
        load_dataset(entry["NAME"])
        load_dataset(entry["NAME"], masked=True)
    finally:
        forget(entry["NAME"])
