"""Images under the names that Label Studio gives uploads: eight hex digits, a dash, the name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clop_det.annotations.datasets import checks_of, forget, load_dataset, use_datasets
from clop_det.annotations.names import find_upload, uploads
from clop_det.config.reading import read_config
from clop_det.errors import UserError
from tests.detection.spoiled import COCO, VOC, DataSet, picture, spoiled, swap

pytestmark = pytest.mark.usefixtures("cache_folder")
PREFIX = "a1b2c3d4-"


@pytest.mark.parametrize(
    ("name", "files", "found"),
    [
        ("0123abcd-x.jpg", ["x.jpg", "y.jpg"], "x.jpg"),
        ("x.jpg", ["0123abcd-x.jpg"], "0123abcd-x.jpg"),
        ("images/0123abcd-x.jpg", ["images/x.jpg"], "images/x.jpg"),
        ("images/0123abcd-x.jpg", ["x.jpg"], None),
        ("x.jpg", ["0123abcd-x.jpg", "4567abcd-x.jpg"], None),
        ("0123abcd-x.jpg", ["4567abcd-x.jpg"], None),  # two uploads of one name are two pictures
        ("0123abcg-x.jpg", ["x.jpg"], None),
        ("123abcd-x.jpg", ["x.jpg"], None),
        ("0123abcd-", [""], None),
        ("cat.jpg", ["20230101-cat.jpg"], None),  # a day that a camera wrote
        ("20231231-cat.jpg", ["cat.jpg"], None),
        ("20231301-cat.jpg", ["cat.jpg"], "cat.jpg"),  # there is no month 13
    ],
)
def test_a_prefix_may_be_on_one_side(name: str, files: list[str], found: str | None) -> None:
    assert find_upload(name, uploads(files)) == found


@pytest.mark.parametrize("layout", [VOC, COCO])
@pytest.mark.parametrize("on_file", [False, True])
def test_images_are_found_and_counted(tmp_path: Path, layout: str, on_file: bool) -> None:
    named, stored = ("b.png", f"{PREFIX}b.png") if on_file else (f"{PREFIX}b.png", "b.png")
    stem = Path(named).stem
    data = DataSet(tmp_path, layout, file=named, list_lines=["a", stem])
    data.write()
    if layout == VOC:
        (data.root / "Annotations" / "b.xml").rename(data.root / "Annotations" / f"{stem}.xml")
    picture().save(data.root / "JPEGImages" / stored)
    assert [Path(record["file_name"]).name for record in data.load(respelled_file="drop")] == ["a.png"]
    records = data.load()
    assert [Path(record["file_name"]).name for record in records] == ["a.png", stored]
    assert [len(record["annotations"]) for record in records] == [1, 2]
    assert checks_of("checked").counts == {"respelled_file": 1}


def test_label_studios_export_beside_the_images_as_they_were(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["file_name"] = f"images/{PREFIX}{image['file_name']}"

    made = spoiled(tmp_path / "made", COCO, lambda d: swap(d, change=change)).root
    root = tmp_path / "export"
    root.mkdir()
    (made / "annotations" / "instances_train.json").rename(root / "result.json")
    (made / "JPEGImages").rename(root / "images")
    forget("studio")
    use_datasets(read_config("", ["DATASETS.REGISTER", str([{"NAME": "studio", "LAYOUT": "coco", "ROOT": str(root)}])]))
    assert [Path(record["file_name"]).name for record in load_dataset("studio")] == ["a.png", "b.png"]


@pytest.mark.parametrize("layout", [VOC, COCO])
def test_two_names_of_one_file_are_refused(tmp_path: Path, layout: str) -> None:
    """The file would be taken for both images, or for one beside its own annotation."""

    def change(content: dict[str, Any]) -> None:
        content["images"][1]["file_name"] = f"{PREFIX}a.png"

    data = spoiled(tmp_path, layout, lambda d: swap(d, change=change, list_lines=["a", f"{PREFIX}a"]))
    if layout == VOC:
        (data.root / "Annotations" / "b.xml").rename(data.root / "Annotations" / f"{PREFIX}a.xml")
    assert [len(record["annotations"]) for record in data.load(missing_file="drop")] == [1]
    with pytest.raises(UserError, match=f"{PREFIX}a"):
        data.load()
