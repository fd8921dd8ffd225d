"""Folders, names and files as other tools write them: found as they are."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import MetadataCatalog

from clop_det.annotations.datasets import (
    checks_of,
    class_names,
    forget,
    load_dataset,
    register_datasets,
    set_num_classes,
    use_datasets,
)
from clop_det.config.reading import read_config
from clop_det.errors import UserError
from tests.detection.spoiled import COCO, HEIGHT, VOC, WIDTH, DataSet, picture, spoiled, swap

pytestmark = pytest.mark.usefixtures("cache_folder")


def registered(root: Path, layout: str, **keys: Any) -> list[int]:
    """How many boxes each image of a data set has."""
    forget("shape")
    register_datasets([{"NAME": "shape", "LAYOUT": layout, "ROOT": str(root), **keys}])
    return [len(record["annotations"]) for record in load_dataset("shape")]


def made(root: Path, layout: str) -> Path:
    """Two images with 1 and 2 boxes, as Pascal VOC or COCO lie."""
    spoiled(root, layout, lambda d: None)
    return root


@pytest.mark.parametrize(
    ("annotations", "images", "keys"),
    [
        ("annots", "images", {}),
        ("annotations", "images", {}),
        ("annotations/xmls", "images", {}),
        ("Annotations/train", "JPEGImages/train", {"SPLIT": "train"}),
        ("Annotations/train", "JPEGImages", {"SPLIT": "train"}),
        ("train", "train", {"SPLIT": "train"}),
        (".", ".", {}),
        ("labels", "photos", {"ANNOTATION_DIR": "labels", "IMAGE_DIR": "photos"}),
    ],
)
def test_voc_folders(tmp_path: Path, annotations: str, images: str, keys: dict[str, str]) -> None:
    source = made(tmp_path / "source", VOC)
    root = tmp_path / "d"
    for part, folder in (("Annotations", annotations), ("JPEGImages", images)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for file in (source / part).iterdir():
            file.rename(root / folder / file.name)
    assert registered(root, VOC, **keys) == [1, 2]


def test_a_folder_of_no_known_shape_names_the_keys(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="ANNOTATION_DIR and IMAGE_DIR name other folders"):
        registered(tmp_path, VOC)
    with pytest.raises(UserError, match="ANNOTATION_DIR 'labels' is no folder"):
        registered(tmp_path, VOC, ANNOTATION_DIR="labels")


@pytest.mark.parametrize(
    ("json_file", "images", "split"),
    [
        ("annotations/instances_default.json", "images/default", "default"),  # CVAT
        ("annotations/instances_default.json", "images", "default"),
        ("train/_annotations.coco.json", "train", "train"),  # Roboflow
        ("result.json", "images", ""),  # Label Studio
        ("annotations/val.json", "val", "val"),
        ("train.json", ".", "train"),
    ],
)
@pytest.mark.parametrize("distraction", [False, True])
def test_coco_folders(tmp_path: Path, json_file: str, images: str, split: str, distraction: bool) -> None:
    source = made(tmp_path / "source", COCO)
    root = tmp_path / "d"
    for path in (root / json_file, root / images / "x"):
        path.parent.mkdir(parents=True, exist_ok=True)
    (source / "annotations" / "instances_train.json").rename(root / json_file)
    for file in (source / "JPEGImages").iterdir():
        file.rename(root / images / file.name)
    if distraction:  # a folder of a likely name with other images
        (root / "JPEGImages").mkdir()
        picture().save(root / "JPEGImages" / "other.png")
    assert registered(root, COCO, SPLIT=split) == [1, 2]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("sub\\b.png", "sub/b.png"),
        (".\\sub\\b.png", "sub/b.png"),
        ("my%20b.png", "my b.png"),
        ("b.PNG", "b.png"),
        ("b.png", "b.PNG"),
        (unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "é.png")),
        (unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png")),
    ],
)
def test_names_in_other_spellings(tmp_path: Path, written: str, name: str) -> None:
    data = DataSet(tmp_path, COCO, file=name)
    data.save_image()
    data.change = lambda content: content["images"][1].update(file_name=written)
    data.write()
    records = data.load()
    assert [Path(record["file_name"]) for record in records] == [data.root / "JPEGImages" / n for n in ("a.png", name)]
    assert checks_of("checked").counts == {"respelled_file": 1}


@pytest.mark.parametrize("written", ["..\\..\\secret.png", "%2e%2e/secret.png", "/secret.png", "x\0.png"])
def test_no_spelling_leads_out_of_the_folder(tmp_path: Path, written: str) -> None:
    data = DataSet(tmp_path / "d", COCO)
    data.save_image()
    data.change = lambda content: content["images"][1].update(file_name=written)
    data.write()
    for place in (tmp_path, tmp_path / "d"):
        picture().save(place / "secret.png")
    with pytest.raises(UserError, match="does not exist|leads out"):
        data.load()


@pytest.mark.parametrize("line", ["my b", "my b.png", "my b 1", "JPEGImages\\my b.PNG  -1", "my b.png 0"])
def test_names_with_blanks_in_lists(tmp_path: Path, line: str) -> None:
    data = spoiled(tmp_path, VOC, lambda d: swap(d, list_lines=["a  1", line]))
    data.image.rename(data.image.with_name("my b.png"))
    path = data.root / "Annotations" / "b.xml"
    path.rename(path.with_name("my b.xml"))
    assert [record["image_id"] for record in data.load()] == ["a", "my b"]


@pytest.mark.parametrize("suffix", [".PNG", ".webp", ".tif", ".GIF"])
def test_endings_of_any_format_in_any_case(tmp_path: Path, suffix: str) -> None:
    data = DataSet(tmp_path, VOC, file=f"b{suffix}")
    data.save_image()
    data.write()
    path = data.root / "Annotations" / "b.xml"
    path.rename(path.with_suffix(".XML"))
    assert Path(data.load()[1]["file_name"]).name == f"b{suffix}"


FLOATS = [("images", "id"), ("annotations", "id"), ("annotations", "image_id"), ("annotations", "category_id")]


@pytest.mark.parametrize(("key", "field"), FLOATS)
def test_ids_as_floats(tmp_path: Path, key: str, field: str) -> None:
    def change(content: dict[str, Any]) -> None:
        for entry in content[key]:
            entry[field] = float(entry[field])

    records = spoiled(tmp_path, COCO, lambda d: swap(d, change=change)).load()
    assert [record["image_id"] for record in records] == [1, 2]
    assert [entry["category_id"] for entry in records[1]["annotations"]] == [0, 1]
    assert checks_of("checked").entries == {}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_json_in_other_encodings_and_with_nan(tmp_path: Path, encoding: str) -> None:
    data = spoiled(tmp_path, COCO, lambda d: None)
    path = data.root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["info"] = {"score": float("nan")}
    path.write_text(json.dumps(content), encoding=encoding)
    assert [len(record["annotations"]) for record in data.load()] == [1, 2]


@pytest.mark.parametrize("text", ['{"images": %s}', '{"info": %s, "images": [], "annotations": [], "categories": []}'])
@pytest.mark.parametrize("inner", ["[" * 200_000, "[" * 200_000 + "]" * 200_000, '{"a":' * 100_000])
def test_json_of_any_depth_is_one_error(tmp_path: Path, text: str, inner: str) -> None:
    data = spoiled(tmp_path, COCO, lambda d: None)
    (data.root / "annotations" / "instances_train.json").write_text(text % inner)
    with pytest.raises(UserError, match="nested too deeply|as JSON|no list|no category"):
        data.load()


@pytest.mark.parametrize(("part", "key"), [("annotations", "a\ud800"), ("categories", "name"), ("images", "a\ud800")])
def test_half_a_surrogate_pair_is_one_error(tmp_path: Path, part: str, key: str) -> None:
    data = spoiled(tmp_path, COCO, lambda d: None)
    path = data.root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content[part][0][key] = "a\ud800"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"holds '\\ud800', half of a surrogate pair"):
        data.load()


@pytest.mark.parametrize(("digits", "words"), [(400, "no box of four numbers"), (5000, "as JSON")])
def test_a_number_of_hundreds_of_digits_is_one_error(tmp_path: Path, digits: int, words: str) -> None:
    data = spoiled(tmp_path, COCO, lambda d: None)
    path = data.root / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"][0] = "number"
    path.write_text(json.dumps(content).replace('"number"', "9" * digits))
    with pytest.raises(UserError, match=words):
        data.load()


def categories(*names: str, **first: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["categories"] = [{"id": k + 1, "name": name} for k, name in enumerate(names)]
        if first:
            content["categories"].insert(0, first)
            for entry in content["categories"][1:]:
                entry["supercategory"] = first["name"]

    return change


def test_a_root_category_of_a_childs_name_is_left_out(tmp_path: Path) -> None:
    change = categories("cat", "dog", id=0, name="cat", supercategory="none")
    root = tmp_path / "d"
    spoiled(root, COCO, lambda d: swap(d, change=change))
    assert registered(root, COCO, SPLIT="train") == [1, 2]
    assert class_names("shape") == ("cat", "dog")
    assert registered(root, COCO, SPLIT="train", CLASSES=["dog", "cat"]) == [1, 2]


@pytest.mark.parametrize("layout", [VOC, COCO])
def test_a_test_set_with_fewer_classes_is_read_with_those_of_training(tmp_path: Path, layout: str) -> None:
    spoiled(tmp_path / "a", layout, lambda d: None)
    fewer = categories("owl", "dog")

    def change(content: dict[str, Any]) -> None:
        fewer(content)
        content["categories"] = content["categories"][1:]
        content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] == 2]

    boxes = [("dog", 20, 5, 30, 20), ("dog", 3, 4, 12, 13)]
    spoiled(tmp_path / "b", layout, lambda d: swap(d, change=change, boxes=boxes))
    first = tmp_path / "b" / "Annotations" / "a.xml"
    if layout == VOC:
        first.write_text(first.read_text().replace("cat", "dog"))
    specs = [{"NAME": f"fewer_{x}", "LAYOUT": layout, "ROOT": str(tmp_path / x), "SPLIT": "train"} for x in "ab"]
    options = ["DATASETS.REGISTER", str(specs), "DATASETS.TRAIN", "('fewer_a',)", "DATASETS.TEST", "('fewer_b',)"]
    cfg = read_config("", [*options, "MODEL.ROI_HEADS.NUM_CLASSES", "0"]).clone()
    cfg.defrost()
    for reread in (True, False, True):
        use_datasets(cfg, reread=reread)
        set_num_classes(cfg)
        assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
        assert class_names("fewer_b") == ("cat", "dog")
        assert {e["category_id"] for record in load_dataset("fewer_b") for e in record["annotations"]} == {1}
    cfg.DATASETS.TRAIN = ("fewer_b",)
    use_datasets(cfg)
    assert class_names("fewer_b") == ("dog",)
    assert MetadataCatalog.get("fewer_b").evaluator_type in ("coco", "pascal_voc")


def test_a_class_that_no_category_is_near_is_named(tmp_path: Path) -> None:
    spoiled(tmp_path, COCO, lambda d: None)
    with pytest.raises(UserError, match=r"knows no category dgo \(did you mean dog\?\); it has cat, dog"):
        registered(tmp_path, COCO, SPLIT="train", CLASSES=["cat", "dgo"])


@pytest.mark.parametrize("where", [2.2e9, 1e6, -1e6, 2 * WIDTH + 1, 2 * HEIGHT + 1])
def test_a_polygon_far_outside_is_none(tmp_path: Path, where: float) -> None:
    mask = [[0, 0, 9, 0, 9, where], [1, 1, 9, 1, 9, 9]]

    def change(content: dict[str, Any]) -> None:
        content["annotations"][1]["segmentation"] = mask

    (first, _) = spoiled(tmp_path, COCO, lambda d: swap(d, change=change)).load()[1]["annotations"]
    assert first["segmentation"] == mask[1:]
    assert checks_of("checked").counts == {"bad_polygon": 1}
