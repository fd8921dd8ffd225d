"""Any data set from YAML: file lists, class files, subsets; and Detectron2's own names under DETECTRON2_DATASETS."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_voc_instances, register_coco_instances
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from clop_det.annotations.datasets import checks_of, class_names, forget, load_dataset, register_datasets
from clop_det.detection.coco_metric import coco_metrics
from clop_det.detection.ground_truth import Detections, ground_truth
from clop_det.errors import UserError
from tests.detection.conftest import CLASSES, voc_xml


def registered(root: Path, layout: str, **keys: Any) -> list[dict[str, Any]]:
    forget("here")
    register_datasets([{"NAME": "here", "LAYOUT": layout, "ROOT": str(root), **keys}])
    return load_dataset("here")


def ids(records: list[dict[str, Any]]) -> list[str]:
    return [Path(record["file_name"]).stem for record in records]


@pytest.mark.parametrize(
    "lines",
    [
        "test_03\ntest_01\n",
        "test_03  1\ntest_01 -1\n",  # as VOC's lists of one class
        "JPEGImages/test_03.png\r\n./JPEGImages/test_01.png\r\n",
        "\ufefftest_03.png\n\n  test_01.PNG\n",
    ],
)
def test_voc_lists_in_every_spelling(shapes_root: Path, tmp_path: Path, lines: str) -> None:
    shutil.copytree(shapes_root, tmp_path / "d")
    (tmp_path / "d" / "few.txt").write_text(lines, newline="")
    assert ids(registered(tmp_path / "d", "voc", LIST="few.txt")) == ["test_03", "test_01"]


def test_voc_without_a_list_takes_every_annotation(shapes_root: Path) -> None:
    assert len(registered(shapes_root, "voc")) == 18


def test_voc_without_image_sets_needs_none(shapes_root: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes_root, tmp_path / "d")
    shutil.rmtree(tmp_path / "d" / "ImageSets")
    assert len(registered(tmp_path / "d", "voc")) == 18
    with pytest.raises(UserError, match="splits there: none"):
        registered(tmp_path / "d", "voc", SPLIT="train")


def test_coco_lists_choose_images(shapes_root: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes_root, tmp_path / "d")
    (tmp_path / "d" / "few.txt").write_text("test_03.png\ntest_01.png\n")
    assert ids(registered(tmp_path / "d", "coco", SPLIT="test", LIST="few.txt")) == ["test_01", "test_03"]
    (tmp_path / "d" / "few.txt").write_text("test_03.png\nother.png\n")
    with pytest.raises(UserError, match=r"lists no image 'other\.png' \(1 of the 2 in LIST"):
        registered(tmp_path / "d", "coco", SPLIT="test", LIST="few.txt")


@pytest.mark.parametrize("layout", ["voc", "coco"])
def test_classes_from_a_file_have_its_order(shapes_root: Path, tmp_path: Path, layout: str) -> None:
    shutil.copytree(shapes_root, tmp_path / "d")
    (tmp_path / "d" / "names.txt").write_text("triangle\ndisc\n\nsquare\n")
    plain = registered(shapes_root, layout, SPLIT="test")
    records = registered(tmp_path / "d", layout, SPLIT="test", CLASSES="names.txt")
    names = ("triangle", "disc", "square")
    assert class_names("here") == names
    for a, b in zip(plain, records, strict=True):
        found = [names[x["category_id"]] for x in b["annotations"]]
        assert found == [CLASSES[x["category_id"]] for x in a["annotations"]]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"CLASSES": "absent.txt"}, r"CLASSES: cannot read .*absent\.txt"),
        ({"CLASSES": ["disc", "disc"]}, "names one class twice"),
        ({"LIST": "absent.txt"}, r"absent\.txt does not exist"),
    ],
)
def test_bad_lists_and_classes(shapes_root: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        registered(shapes_root, "voc", **keys)


def test_keypoints_in_some_annotations_change_nothing(shapes_root: Path, tmp_path: Path) -> None:
    plain = registered(shapes_root, "coco", SPLIT="test")
    content = json.loads((shapes_root / "annotations" / "instances_test.json").read_text())
    for annotation in content["annotations"][::2]:
        annotation |= {"keypoints": [3, 4, 2] * 17, "num_keypoints": 17}
    content["categories"][0]["keypoints"] = ["nose"] * 17
    shutil.copytree(shapes_root, tmp_path / "d")
    (tmp_path / "d" / "annotations" / "instances_test.json").write_text(json.dumps(content))
    records = registered(tmp_path / "d", "coco", SPLIT="test")
    assert [r["annotations"] for r in records] == [r["annotations"] for r in plain]


def test_images_without_boxes_and_empty_masks(shapes_root: Path, tmp_path: Path) -> None:
    content = json.loads((shapes_root / "annotations" / "instances_test.json").read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 2]
    shutil.copytree(shapes_root, tmp_path / "d")
    (tmp_path / "d" / "annotations" / "instances_test.json").write_text(json.dumps(content))
    records = registered(tmp_path / "d", "coco", SPLIT="test")
    assert [len(r["annotations"]) for r in records] == [2, 0, 2, 2, 2, 2]
    assert not any("segmentation" in a for r in records for a in r["annotations"])
    assert checks_of("here").entries == {}


@pytest.fixture(scope="module")
def fake_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VOC 2007 and COCO 2017 as Detectron2 expects them, two images in each split."""
    root = tmp_path_factory.mktemp("datasets")
    voc = root / "VOC2007"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (voc / part).mkdir(parents=True)
    rng = np.random.default_rng(0)

    def picture() -> Image.Image:  # another one each time: no test image may be one to train on
        return Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))

    for split in ("trainval", "test"):
        for i in (0, 1):
            name = f"{split}_{i}"
            picture().save(voc / "JPEGImages" / f"{name}.jpg")
            text = voc_xml(name, 64, 48, [(0, (5, 6, 30, 40)), (1, (9, 9, 50, 20))], difficult=i)
            text = text.replace("disc", "aeroplane").replace("square", "tvmonitor")
            (voc / "Annotations" / f"{name}.xml").write_text(text)
        (voc / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{split}_0\n{split}_1\n")
    names = MetadataCatalog.get("coco_2017_val")
    by_id = {i: names.thing_classes[k] for i, k in names.thing_dataset_id_to_contiguous_id.items()}
    (root / "coco" / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (root / "coco" / split).mkdir()
        images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 64, "height": 48} for i in (9, 25)]
        for image in images:
            picture().save(root / "coco" / split / str(image["file_name"]))
        rle = {"size": [48, 64], "counts": [100, 200, 2772]}
        boxes = [
            {"id": 1, "image_id": 9, "category_id": 1, "bbox": [4.5, 5, 25, 34], "area": 700, "iscrowd": 0},
            {"id": 2, "image_id": 9, "category_id": 90, "bbox": [8, 8, 42, 12], "area": 300, "iscrowd": 1},
        ]
        boxes[0]["segmentation"], boxes[1]["segmentation"] = [[5, 5, 20, 5, 20, 30]], rle
        categories = [{"id": i, "name": name, "supercategory": "x"} for i, name in by_id.items()]
        content = {"images": images, "annotations": boxes, "categories": categories}
        (root / "coco" / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


_PRINT = """
import json, sys
import clop_det
from clop_det.commands.train import main
from clop_det import api
api.launch_workers = lambda worker, cfg, args: None
assert main(sys.argv[1:]) == 0
from clop_det.annotations.datasets import class_names, load_dataset
from clop_det.detection.evaluation import TestSet, main_family
from clop_det.config.reading import read_config
name = sys.argv[-1]
print("RESULT" + json.dumps([len(class_names(name)), main_family(name), list(load_dataset(name))]))
"""


@pytest.mark.parametrize(
    ("train", "test", "classes", "family"),
    [
        ("voc_2007_trainval", "voc_2007_test", 20, "voc07"),
        ("coco_2017_train", "coco_2017_val", 80, "coco"),
    ],
)
def test_built_in_names_work_with_the_trainers_command(
    fake_root: Path, cache_folder: Path, tmp_path: Path, train: str, test: str, classes: int, family: str
) -> None:
    """DETECTRON2_DATASETS is read once, at import: a process of its own."""
    config = Path(__file__).resolve().parents[2] / "configs" / "detection" / "Base-R_18_FPN.yaml"
    words = ["DATASETS.TRAIN", f"('{train}',)", "OUTPUT_DIR", str(tmp_path / "run"), "MODEL.DEVICE", "cpu"]
    words += ["DATASETS.TEST", f"('{test}',)", "MODEL.WEIGHTS", ""]
    command = [sys.executable, "-W", "ignore", "-c", _PRINT.replace("sys.argv[1:]", "sys.argv[1:-1]")]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(fake_root), "CLOP_DET_CACHE": str(cache_folder)}
    done = subprocess.run(
        [*command, "--config-file", str(config), *words, test], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (line,) = [text for text in done.stdout.splitlines() if text.startswith("RESULT")]
    count, headline, records = json.loads(line.removeprefix("RESULT"))
    assert (count, headline, len(records)) == (classes, family, 2)
    if family == "voc07":
        assert [[a["difficult"] for a in r["annotations"]] for r in records] == [[0, 0], [1, 1]]
        expected = load_voc_instances(str(fake_root / "VOC2007"), "test", ["aeroplane", "tvmonitor"])
        assert [a["bbox"] for a in records[0]["annotations"]] == [a["bbox"] for a in expected[0]["annotations"]]
        assert [a["category_id"] for a in records[0]["annotations"]] == [0, 19]
    else:
        first, second = records[0]["annotations"]
        assert (first["category_id"], second["category_id"]) == (0, 79)
        assert (first["iscrowd"], second["iscrowd"]) == (0, 1)
        assert records[1]["annotations"] == []
    kept = json.loads((tmp_path / "run" / "annotation_checks.json").read_text())
    assert list(kept["data_sets"]) == [train, test]


def test_what_users_register_in_python_is_checked_as_well(shapes_root: Path) -> None:
    json_file, images = shapes_root / "annotations" / "instances_test.json", shapes_root / "JPEGImages"
    register_coco_instances("mine_coco", {}, str(json_file), str(images))
    DatasetCatalog.register("mine_plain", lambda: [{"file_name": str(images / "none.png"), "image_id": 1}])
    MetadataCatalog.get("mine_plain").thing_classes = list(CLASSES)
    try:
        assert len(load_dataset("mine_coco")) == 6
        assert class_names("mine_coco") == CLASSES
        with pytest.raises(UserError, match=r"none\.png does not exist.*MISSING_FILE to drop"):
            load_dataset("mine_plain")
    finally:
        for name in ("mine_coco", "mine_plain"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def test_ap_on_cocos_own_file_is_that_of_the_official_code(real_data: Path) -> None:
    """Shaken ground truth as detections: the oracle is COCOeval on the original JSON, gaps and crowds."""
    root = real_data / "coco_cc_by"
    records = registered(root, "coco", SPLIT="val2017")
    truth = ground_truth(records, class_names("here"))
    rng = np.random.default_rng(0)
    kept = rng.permutation(np.repeat(np.arange(len(truth.image)), 2))[:400]
    kept = kept[np.argsort(truth.image[kept], kind="stable")]
    box = truth.box[kept] + rng.normal(0, 3, (400, 4))
    found = Detections(truth.image[kept], truth.category[kept], box, rng.random(400))
    official = COCO(str(root / "annotations" / "instances_val2017.json"))
    ids = {index: category for category, index in MetadataCatalog.get("here").thing_dataset_id_to_contiguous_id.items()}
    results = [
        {
            "image_id": records[int(i)]["image_id"],
            "category_id": ids[int(k)],
            "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]],
            "score": float(s),
        }
        for i, k, b, s in zip(found.image, found.category, box.tolist(), found.score, strict=True)
    ]
    scored = COCOeval(official, official.loadRes(results), "bbox")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    ours = coco_metrics(truth, found)
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    assert 20 < ours["AP"] < 80
    assert [ours[name] for name in names] == pytest.approx([100 * x for x in scored.stats[:6]], abs=1e-9)
