from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.pascal_voc import load_voc_instances
from detectron2.structures import BoxMode

from clop_det.annotations.checks import Checks
from clop_det.annotations.coco import CocoSource, find_categories, load_coco, read_coco
from clop_det.annotations.datasets import class_names, load_dataset, register_datasets, set_num_classes
from clop_det.annotations.voc import VocSource, image_ids
from clop_det.detection.ground_truth import ground_truth
from clop_det.errors import UserError
from tests.detection.conftest import CLASSES, entries


def test_both_layouts_give_the_same_boxes(shapes_root: Path) -> None:
    register_datasets(entries(shapes_root, "voc", "both") + entries(shapes_root, "coco", "both"))
    voc, coco = load_dataset("both_voc_train"), load_dataset("both_coco_train")
    assert class_names("both_voc_train") == class_names("both_coco_train") == CLASSES
    for a, b in zip(voc, coco, strict=True):
        assert (a["file_name"], a["height"], a["width"]) == (b["file_name"], b["height"], b["width"])
        boxes = [BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS) for x in b["annotations"]]
        assert [x["bbox"] for x in a["annotations"]] == boxes
        assert [x["category_id"] for x in a["annotations"]] == [x["category_id"] for x in b["annotations"]]


def test_real_voc_folder_equals_detectron2s_loader(real_data: Path) -> None:
    folder = real_data / "bccd_voc"
    register_datasets([{"NAME": "real_bccd", "LAYOUT": "voc", "ROOT": str(folder), "SPLIT": "test"}])
    assert class_names("real_bccd") == ("Platelets", "RBC", "WBC")
    expected = load_voc_instances(str(folder), "test", ["Platelets", "RBC", "WBC"])
    found = load_dataset("real_bccd")
    assert len(found) == 72
    for ours, theirs in zip(found, expected, strict=True):
        for annotation in ours["annotations"]:
            del annotation["difficult"]
        assert ours == theirs


def test_real_coco_file_with_gapped_ids_crowds_and_an_empty_image(real_data: Path) -> None:
    root = real_data / "coco_cc_by"
    spec = {"NAME": "real_coco", "LAYOUT": "coco", "ROOT": str(root), "SPLIT": "val2017"}
    register_datasets([spec])
    records = load_dataset("real_coco")
    assert len(class_names("real_coco")) == 80
    assert max(a["category_id"] for r in records for a in r["annotations"]) < 80
    assert any(not r["annotations"] for r in records)
    assert any(a["iscrowd"] for r in records for a in r["annotations"])
    assert all(Path(r["file_name"]).is_file() for r in records)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_both_layouts_of_one_real_set_give_the_same_ground_truth(real_data: Path, split: str) -> None:
    """Boxes agree to the rounding of VOC's whole pixels, half a pixel; but for one training box, off by .78."""
    root = str(real_data / "aquarium_det")
    base = {"ROOT": root, "SPLIT": split, "CLASSES": "classes.txt"}
    register_datasets([{**base, "NAME": f"aq_{layout}_{split}", "LAYOUT": layout} for layout in ("voc", "coco")])
    assert class_names(f"aq_voc_{split}") == class_names(f"aq_coco_{split}")
    voc, coco = (sorted(load_dataset(f"aq_{x}_{split}"), key=lambda r: r["file_name"]) for x in ("voc", "coco"))
    truth = [ground_truth(records, class_names(f"aq_voc_{split}")) for records in (voc, coco)]
    for a, b in zip(voc, coco, strict=True):
        assert (a["file_name"], a["height"], a["width"]) == (b["file_name"], b["height"], b["width"])
    for key in ("image", "category", "ignore", "crowd"):
        assert np.array_equal(getattr(truth[0], key), getattr(truth[1], key)), key
    assert len(truth[0].box) == {"train": 3324, "val": 909, "test": 582}[split]
    difference = np.abs(truth[0].box - truth[1].box)
    assert (difference.max(axis=1) > 0.501).sum() == (1 if split == "train" else 0)
    assert difference.max() < 1


def test_registering_twice_changes_nothing_and_a_changed_entry_replaces(shapes_root: Path) -> None:
    (train, _) = entries(shapes_root, "voc", "twice")
    register_datasets([train])
    metadata = MetadataCatalog.get("twice_voc_train")
    register_datasets([train])
    assert MetadataCatalog.get("twice_voc_train") is metadata
    assert metadata.evaluator_type == "pascal_voc"
    register_datasets([{**train, "SPLIT": "test"}])
    assert len(load_dataset("twice_voc_train")) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ROOT": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"SPLIT": "val"}, "splits there: test, train"),
        ({"LAYOUT": "yolo"}, "must be voc or coco"),
        ({"COLOUR": "red"}, "unknown key COLOUR"),
        ({"NAME": "voc_2007_train"}, "built-in"),
        ({"YEAR": 2008}, "2007 or 2012"),
        ({"LAYOUT": "coco", "SPLIT": "dev"}, "annotations/instances_train.json"),
        ({"LAYOUT": "coco", "IMAGE_DIR": "pictures"}, "IMAGE_DIR 'pictures'"),
        ({3: 4, "COLOUR": "red"}, "unknown key 3"),
        ({"CLASSES": 3}, r"entry .*'bad'.*: CLASSES is 3; it must be a list of names, or a file"),
        ({"CLASSES": {"a": 1}}, "CLASSES is {'a': 1}; it must be"),
        ({"CLASSES": None}, "CLASSES is None; it must be"),
        ({"CLASSES": ["disc", None]}, "CLASSES names None"),
        ({"CLASSES": [["disc"]]}, r"CLASSES names \['disc'\]"),
        ({"ROOT": None}, r"entry .*'bad'.*: ROOT is None; it must be a folder or an address"),
        ({"ROOT": ""}, "ROOT is ''; it must be"),
        ({"ROOT": 5}, "ROOT is 5; it must be"),
        ({"LAYOUT": ["coco"]}, r"LAYOUT is \['coco'\]; it must be text"),
        ({"NAME": 7}, "NAME is 7; it must be text"),
        ({"NAME": ""}, "NAME is ''; it must be text"),
        ({"NAME": ["bad"]}, r"NAME is \['bad'\]; it must be text"),
        ({"SPLIT": None}, "SPLIT is None; it must be text"),
        ({"SPLIT": True}, "SPLIT is True; it must be text"),
        ({"YEAR": [2007]}, r"YEAR is \[2007\]"),
        *(({key: 5}, f"{key} is 5; it must be a path relative to ROOT") for key in ("JSON", "IMAGE_DIR", "LIST")),
    ],
)
def test_bad_entries_say_what_is_wrong(shapes_root: Path, change: dict[str, Any], message: str) -> None:
    base = {"NAME": "bad", "LAYOUT": "voc", "ROOT": str(shapes_root), "SPLIT": "train"}
    with pytest.raises(UserError, match=message):
        register_datasets([{**base, **change}])
    assert "bad" not in DatasetCatalog


@pytest.mark.parametrize("layout", ["voc", "coco"])
def test_a_split_may_be_a_number(shapes_root: Path, tmp_path: Path, layout: str) -> None:
    shutil.copytree(shapes_root, tmp_path / "d")
    for path in ("ImageSets/Main/{}.txt", "annotations/instances_{}.json"):
        (tmp_path / "d" / path.format("test")).rename(tmp_path / "d" / path.format(2017))
    register_datasets([{"NAME": "numbered", "LAYOUT": layout, "ROOT": str(tmp_path / "d"), "SPLIT": 2017}])
    assert len(load_dataset("numbered")) == 6


def test_no_name_is_an_error() -> None:
    with pytest.raises(UserError, match="no LAYOUT"):
        register_datasets([{"NAME": "x", "ROOT": "."}])


def test_class_counts_are_filled_in_or_checked(tiny_cfg: CfgNode) -> None:
    assert tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3
    tiny_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 80
    with pytest.raises(UserError, match=r"NUM_CLASSES is 80, but shapes_voc_train has 3 classes \(disc, square"):
        set_num_classes(tiny_cfg)


def test_differing_classes_of_train_and_test_name_both_sides(tiny_cfg: CfgNode, shapes_root: Path) -> None:
    other = {"NAME": "subset", "LAYOUT": "coco", "ROOT": str(shapes_root), "SPLIT": "test", "CLASSES": ["disc"]}
    register_datasets([other])
    tiny_cfg.DATASETS.TEST = ("subset",)
    with pytest.raises(UserError, match=r"shapes_voc_train has the classes disc, square, triangle; subset has disc"):
        set_num_classes(tiny_cfg)


def test_unregistered_name_lists_what_there_is(tiny_cfg: CfgNode) -> None:
    tiny_cfg.DATASETS.TEST = ("nobody",)
    with pytest.raises(UserError, match=r"nobody is not registered.*shapes_voc_train"):
        set_num_classes(tiny_cfg)


def test_built_in_sets_without_files_say_where_they_are_looked_for() -> None:
    with pytest.raises(UserError, match="DETECTRON2_DATASETS"):
        load_dataset("voc_2007_trainval")


def test_an_empty_list_of_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\n \n")
    with pytest.raises(UserError, match="lists no image"):
        image_ids(VocSource(tmp_path, tmp_path / "train.txt"), Checks("x"))


def coco(tmp_path: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [0, 0, 5, 5]}],
        "categories": [{"id": 0, "name": "animals", "supercategory": "none"}]
        + [{"id": k, "name": name, "supercategory": "animals"} for k, name in ((2, "fish"), (9, "crab"))],
    }
    path = tmp_path / "c.json"
    path.write_text(json.dumps(content | changes))
    return path


def load(path: Path, categories: dict[int, str]) -> list[dict[str, Any]]:
    return load_coco(CocoSource(path, path.parent, categories), Checks("x"))


def test_parent_categories_are_no_classes_and_ids_may_have_gaps(tmp_path: Path) -> None:
    path = coco(tmp_path)
    categories = find_categories(read_coco(path), (), path)
    assert categories == {2: "fish", 9: "crab"}
    assert load(path, categories)[0]["annotations"][0]["category_id"] == 0


def test_a_subset_of_classes_keeps_its_own_order(tmp_path: Path) -> None:
    path = coco(tmp_path)
    categories = find_categories(read_coco(path), ("crab", "fish"), path)
    assert list(categories.values()) == ["crab", "fish"]
    assert load(path, categories)[0]["annotations"][0]["category_id"] == 1
    assert load(path, {9: "crab"})[0]["annotations"] == []
    with pytest.raises(UserError, match="knows no category bird"):
        find_categories(read_coco(path), ("bird",), path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": "none"}, "no list 'categories'"),
        ({"categories": [{"id": 2, "name": "a"}, {"id": 2, "name": "b"}]}, "2 occurs twice"),
        ({"categories": [{"id": 2}]}, "without a name"),
        ({"categories": [{"id": 2, "name": ["fish"]}]}, r"without a name: .*\['fish'\]"),
        ({"categories": [{"id": 2, "name": "7"}, {"id": 3, "name": 7}]}, "one name twice"),
        ({"annotations": [5]}, "an entry of 'annotations' is no object: 5"),
        ({"images": [{"file_name": "a.jpg"}]}, "an entry of 'images' has no id"),
        ({"images": [{"id": 1}]}, "image 1 has no file_name"),
    ],
)
def test_files_that_are_no_coco_files(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = coco(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        load(path, find_categories(read_coco(path), (), path))


def test_categories_with_numbers_for_names_and_ids_of_two_kinds(tmp_path: Path) -> None:
    categories = [{"id": "b", "name": 8, "supercategory": [1]}, {"id": 2, "name": 7}, {"id": 1, "name": "x"}]
    boxes = [{"id": k, "image_id": 1, "category_id": c, "bbox": [0, 0, 5, 5]} for k, c in enumerate((2, "b"))]
    path = coco(tmp_path, categories=categories, annotations=boxes)
    found = find_categories(read_coco(path), (), path)
    assert found == {1: "x", 2: "7", "b": "8"}
    assert [a["category_id"] for a in load(path, found)[0]["annotations"]] == [1, 2]
    with pytest.raises(UserError, match="knows no category 9; it has x, 7, 8"):
        find_categories(read_coco(path), ("9",), path)


def test_a_number_names_a_parent_as_text_does(tmp_path: Path) -> None:
    path = coco(tmp_path, categories=[{"id": 1, "name": 5}, {"id": 2, "name": "a", "supercategory": "5"}])
    assert find_categories(read_coco(path), (), path) == {2: "a"}
