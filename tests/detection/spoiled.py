"""Small data sets in both layouts, and the ways to spoil them before they are written."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clop_det.annotations.datasets import forget, load_dataset, use_datasets
from clop_det.config.reading import read_config

WIDTH, HEIGHT = 40, 24


VOC, COCO = "voc", "coco"
DOG = ("dog", 20, 5, 30, 20)


@dataclass
class DataSet:
    """Two images, "a" (sound, one box) and "b" (two boxes), to be spoiled before they are written.

    Attributes:
        boxes: of image b: class, then x1, y1, x2, y2 as VOC writes them: pixels from 1, both ends included.
        size: of image b, as its annotation says.
        file: name of image b.
        xml_head, list_lines: put before b's XML, into the list.
        words: put into the first object of b's XML.
        change: of the content of the JSON file.
        keys: more keys of the entry in DATASETS.REGISTER.
    """

    root: Path
    layout: str
    boxes: list[tuple[Any, ...]] = field(default_factory=lambda: [("cat", 3, 4, 12, 13), ("dog", 20, 5, 30, 20)])
    size: tuple[Any, Any] = (WIDTH, HEIGHT)
    file: str = "b.png"
    xml_head: str = ""
    words: str = ""
    list_lines: list[str] = field(default_factory=lambda: ["a", "b"])
    classes: list[str] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    change: Callable[[dict[str, Any]], None] = lambda content: None

    @property
    def image(self) -> Path:
        return self.root / "JPEGImages" / self.file

    def save_image(self, image: Image.Image | None = None, **options: Any) -> None:
        self.image.parent.mkdir(parents=True, exist_ok=True)
        (image or picture()).save(self.image, **options)

    def write(self) -> None:
        for part in ("JPEGImages", "Annotations", "ImageSets/Main", "annotations"):
            (self.root / part).mkdir(parents=True, exist_ok=True)
        picture().save(self.root / "JPEGImages" / "a.png")
        if self.layout == VOC:
            first = self._xml([("cat", 1, 1, 10, 10)], (WIDTH, HEIGHT))
            (self.root / "Annotations" / "a.xml").write_text(first)
            second = self._xml(self.boxes, self.size).replace("</object>", f"{self.words}</object>", 1)
            (self.root / "Annotations" / "b.xml").write_text(self.xml_head + second)
            if "c" in self.list_lines:
                picture().save(self.root / "JPEGImages" / "c.png")
            (self.root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(self.list_lines))
        else:
            (self.root / "annotations" / "instances_train.json").write_text(json.dumps(self._json()))

    def _xml(self, boxes: list[tuple[Any, ...]], size: tuple[Any, Any]) -> str:
        corners = ("xmin", "ymin", "xmax", "ymax")
        objects = "".join(
            f"<object><name>{name}</name><bndbox>"
            + "".join(f"<{c}>{v}</{c}>" for c, v in zip(corners, box, strict=False))
            + "</bndbox></object>"
            for name, *box in boxes
        )
        return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"

    def _json(self) -> dict[str, Any]:
        names = ["cat", "dog"]
        images = [
            {"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
            {"id": 2, "file_name": self.file, "width": self.size[0], "height": self.size[1]},
        ]
        annotations = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}]
        for name, *box in self.boxes:
            whole = len(box) == 4
            xywh = [box[0] - 1, box[1] - 1, box[2] - box[0] + 1, box[3] - box[1] + 1] if whole else box
            entry = {"image_id": 2, "category_id": names.index(name) + 1, "bbox": xywh, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "area": 50, **entry})
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(names)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        self.change(content)
        return content

    def load(self, **policies: str) -> list[dict[str, Any]]:
        return self.load_with({f"DATASETS.CHECKS.{kind.upper()}": policy for kind, policy in policies.items()})

    def load_with(self, options: dict[str, Any]) -> list[dict[str, Any]]:
        forget("checked")
        spec = {"NAME": "checked", "LAYOUT": self.layout, "ROOT": str(self.root), "SPLIT": "train"}
        spec["CLASSES"] = self.classes or ["cat", "dog"]
        pairs = [str(x) for pair in options.items() for x in pair]
        use_datasets(read_config("", ["DATASETS.REGISTER", str([{**spec, **self.keys}]), *pairs]))
        return list(load_dataset("checked"))


def picture(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    ramp = np.arange(width * height * 3, dtype=np.int64).reshape(height, width, 3)
    return Image.fromarray((ramp % 251).astype(np.uint8))


def swap(data: DataSet, **values: Any) -> None:
    for key, value in values.items():
        setattr(data, key, value)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def png_in_jpg(data: DataSet) -> None:
    data.file = "b.jpg"
    data.save_image(format="PNG")


def converted(mode: str, file: str = "b.png") -> Callable[[DataSet], None]:
    def spoil(data: DataSet) -> None:
        data.file = file
        data.save_image(picture().convert(mode))

    return spoil


def deep(data: DataSet) -> None:
    data.save_image(Image.fromarray(np.full((HEIGHT, WIDTH), 0x8040, np.uint16)))


def floating(data: DataSet) -> None:
    data.file = "b.tif"
    data.save_image(Image.fromarray(np.full((HEIGHT, WIDTH), 0.5, np.float32)))


def truncated(data: DataSet) -> None:
    data.save_image()
    whole = data.image.read_bytes()
    data.image.write_bytes(whole[: len(whole) // 2])


def no_image(data: DataSet) -> None:
    data.save_image()
    data.image.write_bytes(b"<html>not found</html>")


def in_json(key: str, index: int, **values: Any) -> Callable[[DataSet], None]:
    """Change an entry of the JSON file (or append one, with index -1: a copy of the last)."""

    def spoil(data: DataSet) -> None:
        def change(content: dict[str, Any]) -> None:
            if index < 0:
                content[key].append(dict(content[key][-1]))
            content[key][index].update(values)

        data.change = change

    return spoil


def boxes(*given: tuple[Any, ...]) -> Callable[[DataSet], None]:
    return lambda data: swap(data, boxes=list(given))


def spoiled(root: Path, layout: str, spoil: Callable[[DataSet], None]) -> DataSet:
    data = DataSet(root, layout)
    data.save_image()
    spoil(data)
    data.write()
    return data
