"""Every kind of bad annotation, in both layouts, on real files: its message, and what each policy does about it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from clop_det.annotations.checks import KINDS
from clop_det.annotations.datasets import checks_of
from clop_det.annotations.images import read_image
from clop_det.errors import UserError
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
    floating,
    in_json,
    no_image,
    png_in_jpg,
    spoiled,
    swap,
    truncated,
)

pytestmark = pytest.mark.usefixtures("cache_folder")


def outlined(data: DataSet) -> None:
    """The first object of image b has no box but a polygon."""
    points = [(3, 4), (12, 4), (12, 13)]
    corners = "".join(f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate(points, 1))
    swap(data, words=f"<polygon>{corners}</polygon>", boxes=[("cat",), DOG])


def boxes_and_words(difficult: str) -> Callable[[DataSet], None]:
    """The first object of image b says this under `difficult`."""
    return lambda data: swap(data, words=f"<difficult>{difficult}</difficult>")


def twins(data: DataSet) -> None:
    """The first object of image b is of a class of nearly the name of the second's."""
    swap(data, boxes=[("Dog", 3, 4, 12, 13), DOG], classes=["cat", "dog", "Dog"])


RLE = {"size": [3, 3], "counts": [4, 5]}
# kind, layouts, how to spoil image b, what the message says
CASES: list[tuple[str, tuple[str, ...], Callable[[DataSet], None], str]] = [
    ("missing_file", (VOC,), lambda d: d.image.unlink(), "holds no image b"),
    ("missing_file", (COCO,), lambda d: d.image.unlink(), r"b\.png does not exist"),
    ("outside_root", (VOC,), lambda d: swap(d, list_lines=["a", "../b"]), "names '../b', which leads out"),
    ("outside_root", (COCO,), in_json("images", 1, file_name="/etc/passwd"), "names '/etc/passwd', which leads out"),
    ("doctype", (VOC,), lambda d: swap(d, xml_head='<!DOCTYPE a [<!ENTITY x "y">]>'), r"b\.xml holds a DOCTYPE"),
    ("unreadable_annotation", (VOC,), lambda d: swap(d, xml_head="<a>"), r"b\.xml is not well-formed XML"),
    ("duplicate_image_id", (VOC,), lambda d: swap(d, list_lines=["a", "b", "a"]), r"train\.txt lists a twice"),
    ("duplicate_image_id", (COCO,), in_json("images", -1, file_name="a.png"), "image id 2 is not unique"),
    ("repeated_image", (COCO,), in_json("images", -1, id=3), r"images 2 and 3 are both b\.png"),
    ("unannotated_image", (VOC,), lambda d: swap(d, list_lines=["a", "b", "c"]), r"c\.png has no annotation .*c\.xml"),
    ("respelled_file", (COCO,), in_json("images", 1, file_name="b.PNG"), r"b\.PNG is .*b\.png"),
    ("unreadable_image", (VOC, COCO), no_image, r"b\.png is no image"),
    ("truncated_image", (VOC, COCO), truncated, r"b\.png is truncated"),
    ("no_size", (VOC, COCO), lambda d: swap(d, size=(0, 0)), "says 0 x 0, the image is 40 x 24"),
    ("no_size", (VOC,), lambda d: swap(d, size=("", "?")), "says 0 x 0"),
    ("size_mismatch", (VOC, COCO), lambda d: swap(d, size=(80, 48)), "says 80 x 48, the image is 40 x 24"),
    ("size_mismatch", (VOC, COCO), lambda d: swap(d, size=(HEIGHT, WIDTH)), "width and height exchanged"),
    ("exif_rotation", (VOC, COCO), lambda d: d.save_image(exif=exif(3)), "EXIF orientation 3, turned upright"),
    ("format_mismatch", (VOC, COCO), png_in_jpg, r"b\.jpg holds PNG data"),
    ("palette_image", (VOC, COCO), converted("P"), "mode P"),
    ("alpha_image", (VOC, COCO), converted("RGBA"), "mode RGBA"),
    ("grey_image", (VOC, COCO), converted("L"), "mode L"),
    ("deep_image", (VOC, COCO), deep, "more than 8 bits a channel"),
    ("float_image", (COCO,), floating, r"b\.tif holds floating-point numbers \(mode F\)"),
    ("cmyk_image", (VOC, COCO), converted("CMYK", "b.jpg"), "mode CMYK"),
    ("malformed_object", (VOC,), boxes(("", 1, 2, 3, 4), DOG), "lacks a name or a box"),
    ("malformed_object", (VOC, COCO), boxes(("cat", 1, 2), DOG), "box of four numbers"),
    ("malformed_object", (VOC,), boxes(("cat", 1, 2, "wide", 3), DOG), "four numbers.*wide"),
    ("malformed_object", (COCO,), in_json("annotations", 1, category_id=[1]), r"category_id \[1\], which is neither"),
    ("malformed_object", (COCO,), in_json("annotations", 1, image_id={}), r"image_id \{\}, which is neither"),
    ("malformed_object", (COCO,), in_json("annotations", 1, iscrowd="no"), "annotation 2 has the iscrowd 'no'"),
    ("malformed_object", (COCO,), in_json("annotations", 1, area="big"), "annotation 2 has the area 'big'"),
    ("malformed_object", (COCO,), in_json("annotations", 1, area=float("nan")), "annotation 2 has the area nan"),
    ("malformed_object", (COCO,), in_json("annotations", 1, area=True), "annotation 2 has the area True"),
    ("malformed_object", (COCO,), in_json("annotations", 1, bbox=[1, 2, 10**400, 3]), "box of four numbers"),
    ("malformed_object", (COCO,), in_json("annotations", 1, bbox=[1, 2, 2**63, 3]), "box of four numbers"),
    ("no_box", (COCO,), in_json("annotations", 1, bbox=None, segmentation=[[2, 3, 12, 3, 12, 13]]), "2 has no box"),
    ("no_box", (VOC,), outlined, r"from \(3, 4\) to \(12, 13\) is that of a polygon"),
    ("unclear_difficult", (VOC,), boxes_and_words("Unspecified"), "has the difficult 'Unspecified'"),
    ("nonfinite_box", (VOC,), boxes(("cat", 1, 2, "nan", 3), DOG), "is not finite"),
    ("nonfinite_box", (COCO,), in_json("annotations", 1, bbox=[1, 2, float("inf"), 3]), "is not finite"),
    ("inverted_box", (VOC, COCO), boxes(("cat", 12, 4, 3, 13), DOG), "ends before it begins"),
    ("degenerate_box", (COCO,), in_json("annotations", 1, bbox=[5, 6, 0, 7]), "no width or no height"),
    ("one_pixel_box", (VOC,), boxes(("cat", 7, 4, 7, 13), DOG), r"from \(7, 4\) to \(7, 13\)"),
    ("normalised_box", (COCO,), in_json("annotations", 1, bbox=[0.1, 0.2, 0.25, 0.4]), "within the first pixel"),
    ("normalised_box", (VOC,), boxes(("cat", 0.1, 0.2, 0.35, 0.6), DOG), "within the first pixel"),
    ("repeated_box", (VOC, COCO), boxes(("dog", 20, 5, 30, 20), DOG), "is the same as an"),
    ("near_box", (VOC, COCO), boxes(("dog", 20, 5, 30, 20.5), DOG), "is nearly that of an"),
    ("zero_area", (COCO,), in_json("annotations", 1, area=0), "annotation 2, .* has the area 0"),
    ("twin_class", (VOC,), twins, r"'Dog' \(1 boxes\) and 'dog' \(1 boxes\) of checked differ"),
    ("out_of_image_box", (VOC, COCO), boxes(("cat", 30, 20, 60, 30), DOG), "leaves the image of 40 x 24"),
    ("unknown_class", (VOC,), boxes(("Cat", 1, 2, 3, 4), DOG), "'Cat', which is not in cat, dog"),
    ("unknown_class", (COCO,), in_json("annotations", 1, category_id=7), "category_id 7: not listed"),
    ("unselected_class", (COCO,), lambda d: swap(d, classes=["dog"]), "2 of category cat"),
    ("unknown_image", (COCO,), in_json("annotations", 1, image_id=9), "belongs to image 9"),
    ("no_annotation_id", (COCO,), in_json("annotations", 1, id=None), "annotation number 2 has no id"),
    ("duplicate_annotation_id", (COCO,), in_json("annotations", 1, id=1), "annotation id 1 is not unique"),
    (
        "bad_polygon",
        (COCO,),
        in_json("annotations", 1, segmentation=[[1, 2, 3, 4]]),
        r"b\.png, annotation 2, .* a polygon",
    ),
    (
        "bad_polygon",
        (COCO,),
        in_json("annotations", 1, segmentation=RLE),
        r"b\.png, annotation 2, .* a polygon or mask",
    ),
]
ALL = [
    pytest.param(kind, layout, spoil, message, id=f"{kind}-{layout}-{i}")
    for i, (kind, layouts, spoil, message) in enumerate(CASES)
    for layout in layouts
]


def test_every_kind_has_a_case_in_each_layout_that_can_have_it() -> None:
    # Those are one in training alone, see below, and one of a config key, see test_images.
    assert {kind for kind, *_ in CASES} == set(KINDS) - {"no_mask", "oversized_image"}


@pytest.mark.parametrize("layout", [VOC, COCO])
def test_a_sound_data_set_has_no_findings(tmp_path: Path, layout: str) -> None:
    data = spoiled(tmp_path, layout, lambda d: None)
    assert [len(record["annotations"]) for record in data.load()] == [1, 2]
    assert checks_of("checked").entries == {}


@pytest.mark.parametrize(("kind", "layout", "spoil", "message"), ALL)
def test_fail_names_the_place_and_the_way_out(
    tmp_path: Path, kind: str, layout: str, spoil: Callable[[DataSet], None], message: str
) -> None:
    data = spoiled(tmp_path, layout, spoil)
    with pytest.raises(UserError, match=message) as error:
        data.load(**{kind: "fail"})
    assert f"DATASETS.CHECKS.{kind.upper()} to" in str(error.value)
    assert "data set checked" in str(error.value)


@pytest.mark.parametrize(("kind", "layout", "spoil", "message"), ALL)
def test_drop_leaves_out_the_image_or_the_annotation_and_counts_it(
    tmp_path: Path, kind: str, layout: str, spoil: Callable[[DataSet], None], message: str
) -> None:
    records = spoiled(tmp_path, layout, spoil).load(**{kind: "drop"})
    checks = checks_of("checked")
    assert list(checks.entries) == [kind]
    kept = {Path(record["file_name"]).stem: len(record["annotations"]) for record in records}
    if kind in ("duplicate_image_id", "repeated_image", "unannotated_image"):
        assert kept == {"a": 1, "b": 2}  # the repetition, or a third image, is what is dropped
    elif kind == "unselected_class":
        assert kept == {"a": 0, "b": 1}
        assert checks.counts[kind] == 2
    elif KINDS[kind].dropped == "image":
        assert kept == {"a": 1}
    else:
        assert kept == {"a": 1, "b": 1}
        assert [a["category_id"] for a in records[1]["annotations"]] == [1]
    assert checks.counts[kind] == (2 if kind == "unselected_class" else 1)
    assert checks.table().count(kind) == 1
    assert "dropped" in checks.table()


REPAIRABLE = [case for case in ALL if KINDS[str(case.values[0])].repair]


@pytest.mark.parametrize(("kind", "layout", "spoil", "message"), REPAIRABLE)
def test_repair_keeps_everything_and_says_so(
    tmp_path: Path, kind: str, layout: str, spoil: Callable[[DataSet], None], message: str
) -> None:
    records = spoiled(tmp_path, layout, spoil).load(**{kind: "repair"})
    assert [len(record["annotations"]) for record in records] == ([1, 2, 0] if kind == "unannotated_image" else [1, 2])
    assert checks_of("checked").counts == {kind: 1}
    assert "repaired: " in checks_of("checked").table()
    for record in records:  # what training will read is what the record says
        assert read_image(record, "RGB").shape == (record["height"], record["width"], 3)


def test_defaults_stop_at_what_may_mean_harm(tmp_path: Path) -> None:
    stops = {name for name, kind in KINDS.items() if kind.default == "fail"}
    for kind, layouts, spoil, _ in CASES:
        data = spoiled(tmp_path / f"{kind}{id(spoil)}", layouts[0], spoil)
        if kind in stops:
            with pytest.raises(UserError):
                data.load()
        else:
            data.load()
            assert kind in checks_of("checked").entries
