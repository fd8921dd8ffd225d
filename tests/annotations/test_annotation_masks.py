"""Masks: which are learnt from, which are left out, and against what they are measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clop_det.annotations.datasets import checks_of, load_dataset
from clop_det.errors import UserError
from tests.detection.spoiled import COCO, HEIGHT, WIDTH, DataSet, in_json, spoiled

pytestmark = pytest.mark.usefixtures("cache_folder")


def masks_in_json(*masks: Any) -> Callable[[DataSet], None]:
    """Give the boxes of the JSON file, in order, these segmentations."""

    def spoil(data: DataSet) -> None:
        def change(content: dict[str, Any]) -> None:
            for entry, mask in zip(content["annotations"], masks, strict=True):
                entry["segmentation"] = mask

        data.change = change

    return spoil


SQUARE = [[1, 1, 9, 1, 9, 9, 1, 9]]


def test_boxes_without_a_mask_are_left_out_where_masks_are_learnt_and_listed(tmp_path: Path) -> None:
    spoiled(tmp_path, COCO, masks_in_json(SQUARE, [[1, 2]], [])).load()
    masked = load_dataset("checked", masked=True)
    assert [len(record["annotations"]) for record in masked] == [1, 0]
    checks = checks_of("checked", masked=True)
    assert checks.counts == {"bad_polygon": 1, "no_mask": 2}
    assert "annotation 3, box [19, 4, 11, 16] has no mask" in checks.entries["no_mask"][1]
    assert (checks.annotations, checks.dropped("annotation")) == (1, 2)
    assert "no_mask" in checks.table()
    # What is tested on keeps them, and knows nothing of it.
    assert [len(record["annotations"]) for record in load_dataset("checked")] == [1, 2]
    assert checks_of("checked").counts == {"bad_polygon": 1}
    assert checks_of("checked").annotations == 3


def test_boxes_without_a_mask_can_stop_the_run(tmp_path: Path) -> None:
    spoiled(tmp_path, COCO, masks_in_json(SQUARE, SQUARE, None)).load(no_mask="fail")
    with pytest.raises(UserError, match=r"annotation 3, .* has no mask .*DATASETS\.CHECKS\.NO_MASK to drop"):
        load_dataset("checked", masked=True)


def test_a_crowd_needs_no_mask(tmp_path: Path) -> None:
    spoiled(tmp_path, COCO, in_json("annotations", 1, iscrowd=1)).load()
    assert [len(record["annotations"]) for record in load_dataset("checked", masked=True)] == [0, 1]


def test_a_mask_is_measured_against_the_image_itself(tmp_path: Path) -> None:
    code = {"size": [HEIGHT, WIDTH], "counts": [100, 20, HEIGHT * WIDTH - 120]}

    def wrong_size(data: DataSet) -> None:
        masks_in_json(SQUARE, code, {**code, "size": [HEIGHT * 2, WIDTH * 2]})(data)
        data.size = (WIDTH * 2, HEIGHT * 2)

    first, second = spoiled(tmp_path, COCO, wrong_size).load(size_mismatch="repair")[1]["annotations"]
    assert first["segmentation"]["size"] == [HEIGHT, WIDTH]
    assert isinstance(first["segmentation"]["counts"], str)
    assert "segmentation" not in second
    assert checks_of("checked").counts == {"size_mismatch": 1, "bad_polygon": 1}
