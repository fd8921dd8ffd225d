"""Data sets that users register in Python: every check that read ones get, and shares of faults that are too many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from clop_det.annotations.datasets import check_classes, checks_of, load_dataset, use_datasets
from clop_det.commands.train import main
from clop_det.config.reading import read_config
from clop_det.errors import UserError
from tests.detection.spoiled import COCO, HEIGHT, WIDTH, DataSet, picture, spoiled, swap

pytestmark = pytest.mark.usefixtures("cache_folder")
NAME = "given_set"
Record = dict[str, Any]


@pytest.fixture
def records(tmp_path: Path) -> Iterator[list[Record]]:
    """Two images with a box each, registered by a function."""
    found: list[Record] = []
    for i in range(2):
        path = tmp_path / f"{i}.png"
        picture().save(path)
        box = {"bbox": [3, 4, 12, 13], "bbox_mode": BoxMode.XYXY_ABS, "category_id": i, "note": "kept"}
        size = {"height": HEIGHT, "width": WIDTH}
        found.append({"file_name": str(path), "image_id": i, **size, "annotations": [box], "scene": "kept"})
    DatasetCatalog.register(NAME, lambda: found)
    MetadataCatalog.get(NAME).set(thing_classes=["cat", "dog"], evaluator_type="coco")
    use_datasets(read_config("", []))
    yield found
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_other_keys_are_passed_on(records: list[Record]) -> None:
    records[0]["annotations"][0] |= {"segmentation": [[1, 2, 9, 2, 9, 9]], "area": 31.5}
    assert list(load_dataset(NAME)) == records
    assert checks_of(NAME).entries == {}


def test_paths_arrays_and_numpy_numbers_are_taken(records: list[Record], tmp_path: Path) -> None:
    records[0] |= {"file_name": tmp_path / "0.png", "height": np.int64(HEIGHT)}
    records[0]["annotations"][0] |= {"bbox": np.array([3, 4, 12, 13.5]), "category_id": np.int64(1)}
    found = load_dataset(NAME)[0]
    assert (found["file_name"], found["height"]) == (str(tmp_path / "0.png"), HEIGHT)
    assert found["annotations"][0]["bbox"] == [3, 4, 12, 13.5]
    assert type(found["annotations"][0]["category_id"]) is int


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"category_id": 2}, r"category_id 2 is not one of 0\.\.1 \(cat, dog\).*CHECKS\.UNKNOWN_CLASS to drop"),
        ({"category_id": -1}, r"category_id -1 is not one of 0\.\.1"),
        ({"category_id": "cat"}, "has the category_id 'cat', which is no whole number.*MALFORMED_OBJECT"),
        ({"category_id": True}, "which is no whole number"),
        ({"category_id": None}, "which is no whole number"),
        ({"bbox": None}, "has no box of four numbers"),
        ({"bbox": [1, 2, 3]}, "has no box of four numbers"),
        ({"bbox": "abcd"}, "has no box of four numbers"),
        ({"bbox_mode": None}, "has the bbox_mode None, which is neither"),
        ({"bbox_mode": BoxMode.XYWHA_ABS}, "bbox_mode.*which is neither"),
        ({"iscrowd": 2}, "has the iscrowd 2"),
        ({"area": -1}, "has the area -1"),
        ({"bbox": [3, 4, float("nan"), 9]}, "is not finite"),
    ],
)
def test_faults_of_annotations(records: list[Record], changes: Record, message: str) -> None:
    records[1]["annotations"][0].update(changes)
    with pytest.raises(UserError, match=message):
        load_dataset(NAME)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda records: records[0].pop("file_name"), "dataset dict 0 has no file_name"),
        (lambda records: records[0].update(file_name=3), "dataset dict 0 has no file_name"),
        (lambda records: records[0].update(annotations=5), "'annotations' is int, not a list"),
        (lambda records: records.insert(0, None), "dataset dict 0 has no file_name: None"),
        (lambda records: records[0]["annotations"].append(7), "an annotation is no mapping"),
    ],
)
def test_faults_of_dataset_dicts(records: list[Record], spoil: Callable[[list[Any]], Any], message: str) -> None:
    spoil(records)
    with pytest.raises(UserError, match=message):
        load_dataset(NAME)


def test_one_picture_in_several_dicts_is_one_image(records: list[Record]) -> None:
    records[1]["file_name"] = records[0]["file_name"]
    (found,) = load_dataset(NAME)
    assert [entry["category_id"] for entry in found["annotations"]] == [0, 1]
    assert checks_of(NAME).counts == {"repeated_image": 1}


@pytest.mark.parametrize(
    ("key", "value"), [("thing_classes", None), ("evaluator_type", None), ("evaluator_type", "lvis")]
)
def test_missing_metadata_is_one_line_before_the_folder_is_claimed(
    records: list[Record], tmp_path: Path, key: str, value: Any
) -> None:
    kept = MetadataCatalog.get(NAME).as_dict()
    MetadataCatalog.remove(NAME)
    changed = {k: v for k, v in {**kept, key: value}.items() if v is not None and k != "name"}
    MetadataCatalog.get(NAME).set(**changed)
    options = ["DATASETS.TRAIN", f"('{NAME}',)", "DATASETS.TEST", f"('{NAME}',)", "OUTPUT_DIR", str(tmp_path / "run")]
    with pytest.raises(UserError, match=f"data set {NAME}.*{key}"):
        main(["--config-file", "configs/detection/Base-R_18_FPN.yaml", *options, "MODEL.DEVICE", "cpu"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match=key):
        check_classes(read_config("", options))


def many(root: Path, box: Callable[[int, int], list[float]], sound: int = 20) -> DataSet:
    """Image b with 20 boxes by `box(x, y)`, and as many sound ones as said."""
    boxes = [box(x, y) for x in range(1, 36, 7) for y in range(1, 20, 5)]
    kept = [[x, y, 2.5, 1.5] for x in range(0, 36, 2) for y in range(0, 20, 2)][:sound]

    def change(content: dict[str, Any]) -> None:
        entry = {**content["annotations"][1]}
        entries = [{**entry, "id": k + 1, "bbox": b, "area": None} for k, b in enumerate(boxes + kept)]
        content["annotations"] = entries

    return spoiled(root, COCO, lambda d: swap(d, change=change))


SHARES: list[tuple[str, Callable[[int, int], list[float]], str]] = [
    ("normalised_box", lambda x, y: [x / WIDTH, y / HEIGHT, 0.1, 0.1], "as YOLO's are.*NORMALISED_BOX to repair"),
    ("out_of_image_box", lambda x, y: [x, y, WIDTH + 5, HEIGHT], "images of another size.*OUT_OF_IMAGE_BOX to drop"),
]


@pytest.mark.parametrize(("kind", "box", "message"), SHARES)
def test_many_of_a_kind_are_an_error_with_the_likely_cause(
    tmp_path: Path, kind: str, box: Callable[[int, int], list[float]], message: str
) -> None:
    data = many(tmp_path, box)
    with pytest.raises(
        UserError, match=rf"\(and 19 more of this kind, among 40 annotations\).*{message}.*SHARE to 1\.0"
    ):
        data.load()
    assert checks_are(data, kind, 20, max_share=1.0)
    few = many(tmp_path / "few", box, sound=100)
    assert checks_are(few, kind, 20)


def checks_are(data: DataSet, kind: str, count: int, max_share: float = 0.2) -> bool:
    """Whether the checks of a data set find so many of a kind and go on."""
    data.load_with({"DATASETS.MAX_FAULT_SHARE": max_share})
    return checks_of("checked").counts[kind] == count


def test_another_policy_than_the_default_is_a_decision(tmp_path: Path) -> None:
    data = many(tmp_path, lambda x, y: [x / WIDTH, y / HEIGHT, 0.125, 0.25], sound=0)
    boxes = [entry["bbox"] for entry in data.load(normalised_box="repair")[1]["annotations"]]
    assert boxes[:2] == [pytest.approx([1, 1, 5, 6], abs=1e-5), pytest.approx([1, 6, 5, 6], abs=1e-5)]


def test_corners_written_as_sizes_are_guessed_and_can_be_read_so(tmp_path: Path) -> None:
    data = many(tmp_path, lambda x, y: [x, y, x + 4, y + 3], sound=0)
    with pytest.raises(UserError, match=r"20 of 20 boxes lie in their images if .*\[x1, y1, x2, y2\].*BOXES: xyxy"):
        data.load()
    data.keys = {"BOXES": "xyxy"}
    (first, *_) = data.load()[1]["annotations"]
    assert (first["bbox"], first["bbox_mode"]) == ([1, 1, 5, 4], BoxMode.XYXY_ABS)
    data.keys = {"BOXES": "yxyx"}
    with pytest.raises(UserError, match="BOXES is 'yxyx'; it must be xywh or xyxy"):
        data.load()


def test_boxes_that_are_there_twice_and_nearly_twice(tmp_path: Path) -> None:
    mask = [[1, 1, 9, 1, 9, 9]]

    def change(content: dict[str, Any]) -> None:
        base = {"image_id": 2, "category_id": 1, "iscrowd": 0, "segmentation": mask}
        boxes = [[1, 1, 10, 10], [1, 1, 10, 10], [1, 1, 10, 10.2], [20, 1, 10, 10], [20, 1, 10, 10], [1, 1, 10, 9]]
        content["annotations"] = [{**base, "id": k, "bbox": box} for k, box in enumerate(boxes)]
        content["annotations"][4]["segmentation"] = [[21, 1, 29, 1, 29, 9]]  # another mask: another object

    records = spoiled(tmp_path, COCO, lambda d: swap(d, change=change)).load()
    assert [entry["id"] for entry in records[1]["annotations"]] == [0, 2, 3, 4, 5]
    checks = checks_of("checked")
    assert checks.counts == {"repeated_box": 1, "near_box": 2}
    assert "annotation 1, box [1, 1, 10, 10] is the same as annotation 0" in checks.entries["repeated_box"][0]
    assert "is nearly that of annotation 3" in checks.entries["near_box"][1]
