"""What a repair makes of boxes, pixels and fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.structures import BoxMode
from PIL import Image

from clop_det.annotations.datasets import checks_of
from clop_det.annotations.images import read_image
from clop_det.detection.ground_truth import ground_truth
from tests.detection.spoiled import (
    COCO,
    DOG,
    HEIGHT,
    VOC,
    WIDTH,
    DataSet,
    boxes,
    converted,
    deep,
    exif,
    in_json,
    picture,
    spoiled,
)

pytestmark = pytest.mark.usefixtures("cache_folder")


def first_box(records: list[dict[str, Any]]) -> list[float]:
    entry = records[1]["annotations"][0]
    return [float(v) for v in BoxMode.convert(list(entry["bbox"]), entry["bbox_mode"], BoxMode.XYXY_ABS)]


@pytest.mark.parametrize("layout", [VOC, COCO])
@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((12, 4, 3, 13), [2, 3, 12, 13]),  # swapped corners, then VOC's shift by one
        ((30, 20, 60, 30), [29, 19, 40, 24]),
        ((-9, -9, 12, 13), [0, 0, 12, 13]),
        ((0, 4, 41, 13), [-1, 3, 41, 13]),  # within a pixel: rounding, left as written
    ],
)
def test_repaired_boxes(tmp_path: Path, layout: str, box: tuple[int, ...], expected: list[float]) -> None:
    if layout == COCO and box[0] > box[2]:
        expected = [3, 3, 11, 13]  # COCO counts no pixels: x 11, width -8
    assert first_box(spoiled(tmp_path, layout, boxes(("cat", *box), DOG)).load()) == expected


def test_one_pixel_is_one_pixel(tmp_path: Path) -> None:
    assert first_box(spoiled(tmp_path, VOC, boxes(("cat", 7, 4, 7, 13), DOG)).load()) == [6, 3, 7, 13]


@pytest.mark.parametrize("layout", [VOC, COCO])
def test_a_box_wholly_outside_is_dropped_even_when_repaired(tmp_path: Path, layout: str) -> None:
    records = spoiled(tmp_path, layout, boxes(("cat", 90, 90, 99, 99), DOG)).load(out_of_image_box="repair")
    assert len(records[1]["annotations"]) == 1


@pytest.mark.parametrize("layout", [VOC, COCO])
@pytest.mark.parametrize("orientation", [2, 3, 5, 6, 8])
@pytest.mark.parametrize("drawn_on", ["upright", "stored"])
def test_exif_is_applied_unless_the_size_says_otherwise(
    tmp_path: Path, layout: str, orientation: int, drawn_on: str
) -> None:
    """A picture stored turned, its EXIF tag, and an annotation of the pixels as seen or as stored."""
    turned = orientation >= 5
    upright = picture()
    back = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}  # fmt: skip
    stored = upright.transpose(back[orientation])
    data = DataSet(tmp_path, layout)
    data.save_image(stored, exif=exif(orientation))
    as_stored = drawn_on == "stored" and turned  # without a turn by 90 degrees the size cannot tell
    if as_stored:
        data.size, data.boxes = (HEIGHT, WIDTH), [("cat", 1, 1, 5, 30)]
    data.write()
    record = data.load()[1]
    assert np.array_equal(read_image(record, "RGB"), np.asarray(stored if as_stored else upright))
    assert checks_of("checked").counts == {"exif_rotation": 1}
    assert ("left as stored" if as_stored else "turned upright") in checks_of("checked").table()


def test_deep_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    record = spoiled(tmp_path, VOC, deep).load()[1]
    assert (read_image(record, "RGB") == 0x80).all()  # 0x8040 / 256; Pillow's own conversion gives 255


@pytest.mark.parametrize("form", ["P", "RGBA", "L", "CMYK"])
def test_colours_after_the_repair(tmp_path: Path, form: str) -> None:
    data = spoiled(tmp_path, COCO, converted(form, "b.jpg" if form == "CMYK" else "b.png"))
    found = read_image(data.load()[1], "BGR")[:, :, ::-1]
    with Image.open(data.image) as image:
        assert np.array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("given", "crowd"), [(None, 0), (0, 0), (False, 0), (1, 1), (True, 1), (1.0, 1)])
def test_iscrowd_is_0_or_1(tmp_path: Path, given: Any, crowd: int) -> None:
    records = spoiled(tmp_path, COCO, in_json("annotations", 1, iscrowd=given)).load()
    found = records[1]["annotations"][0]["iscrowd"]
    assert (found, type(found)) == (crowd, int)
    assert ground_truth(records, ["cat", "dog"]).crowd.tolist() == [False, bool(crowd), False]


def test_an_area_of_null_is_that_of_the_box(tmp_path: Path) -> None:
    records = spoiled(tmp_path, COCO, in_json("annotations", 1, area=None)).load()
    assert ground_truth(records, ["cat", "dog"]).area.tolist() == [100, 100, 50]  # as written, the box, as written
