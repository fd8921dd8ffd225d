"""Faults that are repaired or dropped without loss, and the share of them from which a cause is looked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clop_det.annotations.copies import check_copies
from clop_det.annotations.datasets import checks_of
from clop_det.annotations.overlap import prints_of
from clop_det.data.image_sources import FileSource
from clop_det.detection.ground_truth import ground_truth
from clop_det.errors import UserError
from tests.detection.spoiled import COCO, DataSet, spoiled, swap

pytestmark = pytest.mark.usefixtures("cache_folder")
Entries = list[dict[str, Any]]


def boxes(root: Path, make: Callable[[Entries], Entries]) -> DataSet:
    """Image b with what `make` makes of 20 sound boxes of area 6."""
    places = [(x, y) for x in range(1, 36, 7) for y in range(1, 20, 5)]

    def change(content: dict[str, Any]) -> None:
        base = {"image_id": 2, "category_id": 1, "iscrowd": 0, "area": 6.0}
        entries = make([{**base, "bbox": [x, y, 5, 4]} for x, y in places])
        content["annotations"] = [{**entry, "id": k + 1} for k, entry in enumerate(entries)]

    return spoiled(root, COCO, lambda d: swap(d, change=change))


def counts(data: DataSet, **options: Any) -> dict[str, int]:
    data.load_with({f"DATASETS.{key}": value for key, value in options.items()})
    return checks_of("checked").counts


def test_boxes_that_are_there_twice_are_dropped_and_three_times_refused(tmp_path: Path) -> None:
    assert counts(boxes(tmp_path / "2", lambda entries: entries * 2)) == {"repeated_box": 20}
    data = boxes(tmp_path / "3", lambda entries: entries * 3)
    with pytest.raises(
        UserError, match=r"is the same as annotation 1 \(and 39 more .* 60 annotations\).*merged several times.*SHARE"
    ):
        data.load()
    assert counts(data, MAX_FAULT_SHARE=1.0) == {"repeated_box": 40}
    assert len(data.load(repeated_box="repair")[1]["annotations"]) == 60


def test_areas_of_0_are_those_of_the_boxes_unless_others_are_written(tmp_path: Path) -> None:
    data = boxes(tmp_path / "all", lambda entries: [{**entry, "area": 0} for entry in entries])
    records = data.load()
    assert checks_of("checked").counts == {"zero_area": 20}
    assert set(ground_truth(records, ["cat", "dog"]).area.tolist()) == {20.0}

    def some(entries: Entries) -> Entries:
        return [{**entry, "area": 0 if k < 12 else 6.0} for k, entry in enumerate(entries)]

    mixed = boxes(tmp_path / "some", some)
    with pytest.raises(UserError, match=r"has the area 0 \(and 11 more .*two exports may be mixed.*ZERO_AREA to drop"):
        mixed.load()
    assert counts(mixed, MAX_FAULT_SHARE=0.6) == {"zero_area": 12}


def test_one_entry_for_each_object_is_refused_beyond_the_share(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        base = content["images"][1]
        content["images"] += [{**base, "id": 10 + k} for k in range(12)]
        content["annotations"] += [{**content["annotations"][1], "id": 50, "image_id": 12, "bbox": [1, 1, 9, 9]}]

    data = spoiled(tmp_path, COCO, lambda d: swap(d, change=change))
    with pytest.raises(
        UserError, match=r"are both b\.png \(and 11 more .* 14 images\): the export may have written one entry for each"
    ):
        data.load()
    assert counts(data, MAX_FAULT_SHARE=1.0) == {"repeated_image": 12}
    assert [len(record["annotations"]) for record in data.load_with({"DATASETS.MAX_FAULT_SHARE": 1})] == [1, 3]


def copied(folder: Path, originals: int, copies: int) -> list[str]:
    rng = np.random.default_rng(0)
    files = [folder / f"{k}.png" for k in range(originals)]
    for file in files:
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(file)
    for k in range(copies):
        files.append(folder / f"copy{k}.png")
        files[-1].write_bytes(files[k % originals].read_bytes())
    return list(map(str, files))


def test_copies_under_other_names_are_counted_and_refused_beyond_the_share(tmp_path: Path) -> None:
    def said(names: list[str], share: float = 0.2) -> str:
        return check_copies("fish", names, prints_of(FileSource(Path(), names), names).digests, share)

    few, many = tmp_path / "few", tmp_path / "many"
    for folder in (few, many):
        folder.mkdir()
    assert said(copied(few, 4, 0)) == ""
    names = copied(few, 4, 5)
    assert said(names) == f"5 of 9 images of fish are copies of others under another name, such as {names[4]} of" + (
        f" {names[0]}"
    )
    names = copied(many, 20, 11)
    with pytest.raises(UserError, match=rf"data set fish: 11 of 31 images .*{re.escape(names[20])} of .*each object"):
        said(names)
    assert said(names, 1.0).startswith("11 of 31 images")
    for name in names:  # what cannot be read is no copy of another
        Path(name).unlink()
    assert said(names) == ""
