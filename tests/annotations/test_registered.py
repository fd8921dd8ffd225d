"""What is registered: metadata of one's own, keys of one layout, names with and without their folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from clop_det.annotations.datasets import checks_of, class_names, load_dataset
from clop_det.errors import UserError
from tests.annotations.test_sources import registered
from tests.detection.conftest import CLASSES

pytestmark = pytest.mark.usefixtures("cache_folder")


def test_metadata_of_ones_own_are_kept_and_decide(shapes_root: Path) -> None:
    """Names, the order of the ids' mapping and a slash behind the folder change nothing but what they say."""
    json_file, images = shapes_root / "annotations" / "instances_test.json", shapes_root / "JPEGImages"
    register_coco_instances("mine", {"thing_classes": ["d", "s", "t"]}, str(json_file), f"{images}/")
    mine = MetadataCatalog.get("mine")
    mine.set(thing_dataset_id_to_contiguous_id={30: 2, 10: 0, 20: 1}, image_root=f"{images}/")
    register_coco_instances("plain", {}, str(json_file), str(images))
    try:
        found, plain = list(load_dataset("mine")), list(load_dataset("plain"))
        assert (list(class_names("mine")), class_names("plain")) == (["d", "s", "t"], CLASSES)
        assert mine.thing_dataset_id_to_contiguous_id == {30: 2, 10: 0, 20: 1}
        assert found == plain
        assert checks_of("mine").entries == {}
        with open(json_file, encoding="utf-8") as file:
            named = {image["file_name"] for image in json.load(file)["images"]}
        assert {record["file_name"] for record in found} == {f"{images}/{name}" for name in named}
    finally:
        for name in ("mine", "plain"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.mark.parametrize(
    ("layout", "key", "value"),
    [
        ("coco", "YEAR", 2012),
        ("coco", "ANNOTATION_DIR", "annotations"),
        ("voc", "JSON", "a.json"),
        ("voc", "BOXES", "xyxy"),
    ],
)
def test_keys_of_the_other_layout_are_refused(shapes_root: Path, layout: str, key: str, value: Any) -> None:
    other = {"voc": "coco", "coco": "voc"}[layout]
    with pytest.raises(UserError, match=f"here: {key} is a key of LAYOUT {other} alone; leave it out"):
        registered(shapes_root, layout, SPLIT="test", **{key: value})
    assert len(registered(shapes_root, layout, SPLIT="test")) == 6


def test_a_name_with_and_without_its_folder_is_one_image(shapes_root: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes_root, tmp_path / "d")
    path = tmp_path / "d" / "annotations" / "instances_test.json"
    content = json.loads(path.read_text())
    first = content["images"][0]
    content["images"].append({**first, "id": 99, "file_name": f"./{first['file_name']}"})
    content["annotations"][-1]["image_id"] = 99
    path.write_text(json.dumps(content))
    records = registered(tmp_path / "d", "coco", SPLIT="test")
    assert [len(record["annotations"]) for record in records] == [3, 2, 2, 2, 2, 1]
    assert checks_of("here").counts == {"repeated_image": 1}
