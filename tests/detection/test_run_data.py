"""What a run tells and keeps of its data: checks in the log and the folder, refusals before anything is written."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode

from clop_det.annotations.datasets import forget, use_datasets
from clop_det.commands import train as cli
from clop_det.commands.train import main
from clop_det.detection.run_data import keep_data, log_checks
from clop_det.engine.run_folder import start_logging
from clop_det.errors import UserError
from clop_det.files import read_json, write_json
from tests.detection.conftest import entries
from tests.detection.runs import CONFIG


@pytest.fixture
def copy(shapes_root: Path, tmp_path: Path) -> Path:
    """The tiny data set, to be spoiled: an inverted box in training, a grey test image."""
    root = tmp_path / "data"
    shutil.copytree(shapes_root, root)
    return root


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command up to where its workers would start, and what each of them writes into the log first."""

    def start(worker: Any, cfg: CfgNode, args: argparse.Namespace) -> None:
        start_logging(cfg)
        log_checks(cfg, train=not args.eval_only)

    monkeypatch.setattr(cli, "launch_workers", start)
    monkeypatch.setattr("clop_det.detection.run.fetch_weights", lambda cfg: None)


def command(options: list[str], root: Path, folder: Path, *flags: str, **changes: Any) -> list[str]:
    values = {"DATASETS.REGISTER": entries(root, "voc", "kept"), "DATASETS.TRAIN": ("kept_voc_train",)}
    values |= {"DATASETS.TEST": ("kept_voc_test",), "OUTPUT_DIR": folder}
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    return ["--config-file", CONFIG, *flags, *options, *(str(x) for pair in values.items() for x in pair)]


def spoil_box(root: Path, name: str = "train_00") -> None:
    path = root / "Annotations" / f"{name}.xml"
    text = path.read_text()
    start = text.index("<xmin>")
    end = text.index("</xmin>")
    path.write_text(text[:start] + "<xmin>500" + text[end:])


def in_json(root: Path, change: Callable[[dict[str, Any]], None], split: str = "train") -> None:
    path = root / "annotations" / f"instances_{split}.json"
    content = read_json(path)
    change(content)
    write_json(path, content)


def test_findings_are_in_the_log_and_in_the_folder(
    tiny_options: list[str], copy: Path, tmp_path: Path, untrained: None
) -> None:
    spoil_box(copy)
    folder = tmp_path / "run"
    assert main(command(tiny_options, copy, folder, DATASETS__CHECKS__INVERTED_BOX="drop")) == 0
    log = (folder / "log.txt").read_text()
    assert "annotation checks of kept_voc_train: 12 images, 23 annotations; left out: 0 images, 1 annotations" in log
    assert "annotation checks of kept_voc_test: 6 images, 12 annotations, nothing found" in log
    kept = read_json(folder / "annotation_checks.json")["data_sets"]
    (item,) = kept["kept_voc_train"]["findings"]["inverted_box"]["items"]
    assert "train_00.xml" in item
    assert kept["kept_voc_train"]["findings"]["inverted_box"]["policy"] == "drop"
    assert kept["kept_voc_test"]["findings"] == {}


def test_boxes_without_a_mask_are_in_the_log_and_in_the_folder_of_a_detector_of_masks(
    tiny_options: list[str], copy: Path, tmp_path: Path, untrained: None
) -> None:
    def annotate(content: dict[str, Any]) -> None:
        for entry in content["annotations"][3:]:
            entry["segmentation"] = [[1, 1, 9, 1, 9, 9]]

    in_json(copy, annotate)
    changes = {
        "DATASETS__REGISTER": entries(copy, "coco", "kept"),
        "DATASETS__TRAIN": ("kept_coco_train",),
        "DATASETS__TEST": ("kept_coco_test",),
        "MODEL__MASK_ON": True,
    }
    assert main(command(tiny_options, copy, tmp_path / "run", **changes)) == 0
    assert "12 images, 21 annotations; left out: 0 images, 3 annotations" in (tmp_path / "run" / "log.txt").read_text()
    kept = read_json(tmp_path / "run" / "annotation_checks.json")["data_sets"]
    assert kept["kept_coco_train"]["findings"]["no_mask"]["count"] == 3
    assert kept["kept_coco_test"]["findings"] == {}


def test_a_fault_is_refused_before_anything_is_written(tiny_options: list[str], copy: Path, tmp_path: Path) -> None:
    (copy / "JPEGImages" / "train_03.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"train_03\.png is no image.*DATASETS\.CHECKS\.UNREADABLE_IMAGE to drop"):
        main(command(tiny_options, copy, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_an_evaluation_looks_at_the_test_set_alone(
    tiny_options: list[str], copy: Path, tmp_path: Path, untrained: None
) -> None:
    folder = tmp_path / "run"
    assert main(command(tiny_options, copy, folder)) == 0
    before = (folder / "annotation_checks.json").read_bytes()
    (copy / "JPEGImages" / "train_03.png").unlink()
    assert main(command(tiny_options, copy, folder, "--eval-only", MODEL__WEIGHTS="detectron2://any")) == 0
    assert (folder / "annotation_checks.json").read_bytes() == before
    assert list(read_json(folder / "evaluation_checks.json")["data_sets"]) == ["kept_voc_test"]


def test_data_that_changed_since_the_run_began_are_refused(
    tiny_options: list[str], copy: Path, tmp_path: Path, untrained: None
) -> None:
    folder = tmp_path / "run"
    assert main(command(tiny_options, copy, folder)) == 0
    before = (folder / "annotation_checks.json").read_bytes()
    assert main(command(tiny_options, copy, folder, "--resume")) == 0
    spoil_box(copy)
    with pytest.raises(UserError, match="kept_voc_train has changed since this run began"):
        main(command(tiny_options, copy, folder, "--resume"))
    assert (folder / "annotation_checks.json").read_bytes() == before


def change_entry(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][1].update(values)


def rename_class(content: dict[str, Any]) -> None:
    content["categories"][0]["name"] = "plate"


CHANGES = [
    change_entry(segmentation=[[1, 1, 9, 1, 9, 8]]),
    change_entry(segmentation=[[1, 1, 9, 1, 9, 9], [1, 1, 9, 1, 9, 9]]),
    change_entry(segmentation=[]),
    change_entry(iscrowd=1),
    change_entry(area=5),
    change_entry(bbox=[1, 1, 5, 6]),
    change_entry(category_id=30),
    rename_class,
]


@pytest.mark.parametrize("change", CHANGES)
def test_the_checksum_covers_all_that_is_seen_of_an_annotation(
    copy: Path, tiny_cfg: CfgNode, change: Callable[[dict[str, Any]], None]
) -> None:
    in_json(copy, change_entry(segmentation=[[1, 1, 9, 1, 9, 9]], bbox=[1, 1, 5, 5], category_id=20))
    tiny_cfg.DATASETS.REGISTER = entries(copy, "coco", "kept")
    tiny_cfg.DATASETS.TRAIN = tiny_cfg.DATASETS.TEST = ("kept_coco_train",)
    folder = Path(tiny_cfg.OUTPUT_DIR)
    forget("kept_coco_train")
    use_datasets(tiny_cfg)
    keep_data(tiny_cfg)
    keep_data(tiny_cfg, resume=True)
    before = (folder / "annotation_checks.json").read_bytes()
    in_json(copy, change)
    forget("kept_coco_train")
    use_datasets(tiny_cfg)
    with pytest.raises(UserError, match="kept_coco_train has changed since this run began: .*masks, flags or class"):
        keep_data(tiny_cfg, resume=True)
    assert (folder / "annotation_checks.json").read_bytes() == before


def test_a_difficult_box_is_another_than_an_easy_one(tiny_cfg: CfgNode, copy: Path) -> None:
    tiny_cfg.DATASETS.REGISTER = entries(copy, "voc", "kept")
    tiny_cfg.DATASETS.TRAIN = tiny_cfg.DATASETS.TEST = ("kept_voc_train",)
    use_datasets(tiny_cfg)
    keep_data(tiny_cfg)
    path = copy / "Annotations" / "train_00.xml"
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1", 1))
    use_datasets(tiny_cfg)
    with pytest.raises(UserError, match="kept_voc_train has changed"):
        keep_data(tiny_cfg, resume=True)


def test_records_of_an_earlier_version_are_compared_by_their_numbers(
    tiny_cfg: CfgNode, caplog: pytest.LogCaptureFixture
) -> None:
    path = Path(tiny_cfg.OUTPUT_DIR) / "annotation_checks.json"
    use_datasets(tiny_cfg)
    keep_data(tiny_cfg)
    content = read_json(path)
    earlier = {**content, "format": "clop_det annotation checks 1"}
    for entry in earlier["data_sets"].values():
        entry["sha256"] = "0" * 64
    write_json(path, earlier)
    keep_data(tiny_cfg, resume=True)
    assert "is of an earlier version: only the numbers" in caplog.text
    keep_data(tiny_cfg, resume=True)  # it is of this version now
    earlier["data_sets"]["shapes_voc_train"]["annotations"] += 1
    write_json(path, earlier)
    with pytest.raises(UserError, match="shapes_voc_train has changed since this run began: .* 25 annotations, now"):
        keep_data(tiny_cfg, resume=True)
    for damaged in ([], {}, {**content, "format": "other"}, {**content, "data_sets": None}):
        write_json(path, damaged)
        with pytest.raises(UserError, match=r"annotation_checks\.json is no record of annotation checks"):
            keep_data(tiny_cfg, resume=True)


def test_a_policy_that_does_not_exist_is_refused(
    tiny_options: list[str], copy: Path, tmp_path: Path, untrained: None
) -> None:
    with pytest.raises(UserError, match=r"MISSING_FILE is 'repair'.*nothing to repair"):
        main(command(tiny_options, copy, tmp_path / "run", DATASETS__CHECKS__MISSING_FILE="repair"))
