"""What of a data set counts in a job's identity, read by its digest."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image

from clop_det.annotations.content import dataset_digest
from clop_det.annotations.datasets import forget, use_datasets
from clop_det.config.reading import read_config
from clop_det.data.image_sources import ArrayFile, ArraySource, FileSource, ImageSource, JoinedSource
from clop_det.digests import Digests
from clop_det.files import sha256_of


def voc(folder: Path) -> dict[str, Any]:
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    box = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), (1, 1, 9, 9), strict=True)
    )
    for name in ("a", "b"):
        Image.new("RGB", (20, 10)).save(folder / "JPEGImages" / f"{name}.png")
        text = f"<annotation><object><name>thing</name><bndbox>{box}</bndbox></object></annotation>"
        (folder / "Annotations" / f"{name}.xml").write_text(text)
    (folder / "ImageSets/Main/train.txt").write_text("a\n")
    return {"NAME": "mine", "LAYOUT": "voc", "ROOT": str(folder), "SPLIT": "train"}


def test_of_voc_data_the_listed_annotations_and_images_count(tmp_path: Path) -> None:
    entry = voc(tmp_path / "voc")

    def known(entry: dict[str, Any]) -> str:
        forget("mine")
        digests = Digests()
        found = dataset_digest("mine", read_config("", ["DATASETS.REGISTER", str([entry])]), digests)
        forget("mine")
        assert not digests.problems
        return found

    first = known(entry)
    shutil.copytree(tmp_path / "voc", tmp_path / "copy")
    assert known({**entry, "ROOT": str(tmp_path / "copy")}) == first
    (tmp_path / "voc/JPEGImages/b.png").unlink()  # not of this split
    assert known(entry) == first
    shutil.copy(tmp_path / "copy/JPEGImages/b.png", tmp_path / "voc/JPEGImages/b.png")
    (tmp_path / "voc/ImageSets/Main/train.txt").write_text("a\nb\n")
    second = known(entry)
    assert second != first
    path = tmp_path / "voc/Annotations/a.xml"
    path.write_text(path.read_text().replace("<xmax>9", "<xmax>8"))
    assert known(entry) not in (first, second)


def test_of_data_that_code_registers_the_records_count(tmp_path: Path) -> None:
    def known(folder: Path, width: float) -> str:
        box = {"bbox": [0, 0, width, 1], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
        record = {"file_name": str(folder / "a.png"), "image_id": 1, "height": 10, "width": 20, "annotations": [box]}
        DatasetCatalog.register("by_code", lambda: [record])
        MetadataCatalog.get("by_code").set(thing_classes=["thing"], evaluator_type="coco")
        use_datasets(read_config("", []))
        try:
            return dataset_digest("by_code", read_config("", []), Digests())
        finally:
            DatasetCatalog.remove("by_code")
            MetadataCatalog.remove("by_code")

    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (20, 10)).save(tmp_path / name / "a.png")
    assert known(tmp_path / "here", 4) == known(tmp_path / "there", 4) != known(tmp_path / "here", 5)
    Image.new("RGB", (20, 10)).save(tmp_path / "there" / "a.png", compress_level=0)
    assert known(tmp_path / "here", 4) != known(tmp_path / "there", 4)


def test_what_is_read_twice_is_read_once() -> None:
    calls: list[int] = []
    digests = Digests()
    for _ in range(2):
        digests.of("a thing", [1, 2], lambda: calls.append(1) or "content")
    assert calls == [1]
    assert digests.of("a thing", [3], lambda: "content") == digests.of("a thing", [1, 2], lambda: "other")


class OwnSource(ImageSource):
    """Images of a user's own kind, which only says what is in each."""

    def stamp(self, index: int) -> str:
        return ""

    def content(self, index: int) -> bytes:
        return bytes([index])

    def decode(self, index: int, content: bytes) -> Image.Image:
        raise NotImplementedError


def test_of_images_sizes_count_of_archives_the_content_and_of_other_sources_each_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"12345")
    (tmp_path / "batch.bin").write_bytes(b"123")
    files, arrays = FileSource(tmp_path, ("a.png", "b.png")), ArraySource([ArrayFile(tmp_path / "batch.bin", 2, len)])
    joined = JoinedSource([files, arrays, OwnSource()], [2, 2, 1])
    assert joined.sizes(5, sha256_of) == [
        [5, -1],
        [["batch.bin", 3, hashlib.sha256(b"123").hexdigest()]],
        [hashlib.sha256(b"\x00").hexdigest()],
    ]
