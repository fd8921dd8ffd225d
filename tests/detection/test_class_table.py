"""Class tables and remarks: what is not learnt, not told apart, not scored."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from detectron2.config import CfgNode

from clop_det.annotations.checked_masks import usable_masks
from clop_det.annotations.checks import Checks, Policies
from clop_det.annotations.given import table_of
from clop_det.annotations.table import Table
from clop_det.detection import class_table as module
from clop_det.detection.best_figure import settle_best
from clop_det.detection.class_table import class_counts, class_table, remarks
from clop_det.errors import UserError


def box(category: int, **facts: Any) -> dict[str, Any]:
    return {"category_id": category, "bbox": [0, 0, 5, 5], "bbox_mode": 0, **facts}


@pytest.fixture
def sets(tiny_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """Two records to train on and a test set, to be changed, in place of what the config names."""
    records = {
        "training": [{"file_name": "a.png", "annotations": [box(0), box(1), box(2)]}],
        "test": [{"file_name": "b.png", "annotations": [box(0), box(1), box(1, iscrowd=1)]}],
    }

    def table(name: str) -> Table:
        heads = [{"image_id": i, "height": 9, "width": 9, **record} for i, record in enumerate(records[name])]
        return usable_masks(table_of(heads, ["disc", "square", "triangle"], Checks(name, Policies())))[0]

    monkeypatch.setattr(module, "training_records", lambda cfg: table("training"))
    monkeypatch.setattr(module, "load_dataset", lambda name: table("test"))
    return records


def test_boxes_are_counted_by_class_and_split(tiny_cfg: CfgNode, sets: Any) -> None:
    names, counts = class_counts(tiny_cfg)
    assert names == ("disc", "square", "triangle")
    assert counts == {"training": Counter({0: 1, 1: 1, 2: 1}), "shapes_voc_test": Counter({0: 1, 1: 1})}
    lines = class_table(names, counts).splitlines()
    assert [cell.strip() for cell in lines[-2].split("│")[1:-1]] == ["all 3", "3", "2"]
    assert remarks(tiny_cfg, *class_counts(tiny_cfg)) == []


def test_many_classes_show_the_rarest() -> None:
    table = class_table([f"c{k}" for k in range(500)], {"training": Counter({k: k for k in range(500)})})
    assert "the 100 rarest of 500" in table
    assert "c99 " in table
    assert "c100 " not in table


def test_a_class_without_a_training_box_is_named_with_what_it_costs(tiny_cfg: CfgNode, sets: Any) -> None:
    sets["training"][0]["annotations"] = [box(2), box(0, iscrowd=1)]
    ((found, _),) = remarks(tiny_cfg, *class_counts(tiny_cfg))
    assert found == (
        "no training image has a box of disc, square; shapes_voc_test has 2 boxes of them, which count as missed"
    )
    assert remarks(tiny_cfg, *class_counts(tiny_cfg, train=False)) == []


def test_names_that_differ_in_case_or_blanks_are_named(
    tiny_cfg: CfgNode, sets: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "class_names", lambda name: ("traffic light", "Traffic_Light ", "disc"))
    ((found, _),) = remarks(tiny_cfg, *class_counts(tiny_cfg))
    assert found == "the classes 'traffic light', 'Traffic_Light ' differ in case or blanks alone"


def test_more_objects_than_are_scored_are_named_with_the_keys(tiny_cfg: CfgNode, sets: Any) -> None:
    sets["test"][0]["annotations"] = [box(0) for _ in range(101)] + [box(1)]
    ((found, remedy),) = remarks(tiny_cfg, *class_counts(tiny_cfg))
    assert "b.png with 102 (101 of one class): COCO's AP scores 100 detections" in found
    assert remedy == "set TEST.COCO_MAX_DETECTIONS and TEST.DETECTIONS_PER_IMAGE to 102 or more"
    tiny_cfg.TEST.COCO_MAX_DETECTIONS = tiny_cfg.TEST.DETECTIONS_PER_IMAGE = 102
    assert remarks(tiny_cfg, *class_counts(tiny_cfg)) == []


def test_boxes_without_a_mask_are_counted_for_a_detector_of_masks(tiny_cfg: CfgNode, sets: Any) -> None:
    sets["test"][0]["annotations"][0]["segmentation"] = [[0, 0, 5, 0, 5, 5]]
    assert remarks(tiny_cfg, *class_counts(tiny_cfg)) == []
    tiny_cfg.MODEL.MASK_ON = True
    ((found, _),) = remarks(tiny_cfg, *class_counts(tiny_cfg))
    assert found == "1 of 2 boxes of shapes_voc_test have no mask: mask AP leaves these boxes out, found or not"
    del sets["test"][0]["annotations"][0]["segmentation"]
    assert remarks(tiny_cfg, *class_counts(tiny_cfg))[0][0].endswith(
        "2 of 2 boxes of shapes_voc_test have no mask: mask AP is not computed"
    )


def test_the_best_figure_is_that_of_the_first_test_set(tiny_cfg: CfgNode) -> None:
    tiny_cfg.TEST.KEEP_BEST = "voc07/AP-disc"
    assert settle_best(tiny_cfg) == []
    tiny_cfg.DATASETS.TEST = ("shapes_voc_test", "shapes_voc_train")
    assert settle_best(tiny_cfg) == [
        "TEST.KEEP_BEST voc07/AP-disc -> shapes_voc_test/voc07/AP-disc: of 2 test sets the first"
    ]
    assert settle_best(tiny_cfg) == []
    tiny_cfg.TEST.KEEP_BEST = "shapes_voc_train/probe/object_knn_top1"
    assert settle_best(tiny_cfg) == []


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ("AP", "which no evaluation gives here"),
        ("segm/AP", "which no evaluation gives here"),
        ("bbox/AP60", "Did you mean bbox/AP50"),
        ("bbox/APs", "has no sizes. Name coco/APs"),
        ("coco/AP-cat", "the classes of shapes_voc_test are disc, square"),
        ("elsewhere/bbox/AP", "which no evaluation gives here"),
    ],
)
def test_a_best_figure_that_no_evaluation_gives_is_refused(tiny_cfg: CfgNode, figure: str, message: str) -> None:
    tiny_cfg.TEST.KEEP_BEST = figure
    with pytest.raises(UserError, match=message):
        settle_best(tiny_cfg)
