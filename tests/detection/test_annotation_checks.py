"""Every kind of bad annotation, in both layouts, on real files: its message, and what each policy does about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.structures import BoxMode
from PIL import Image

from clop_det.data.checks import KINDS
from clop_det.detection.datasets import checks_of, forget, load_dataset, use_datasets
from clop_det.detection.ground_truth import ground_truth
from clop_det.detection.images import read_image
from clop_det.engine.options import read_config
from clop_det.errors import UserError

WIDTH, HEIGHT = 40, 24
VOC, COCO = "voc", "coco"


@dataclass
class DataSet:
    """Two images, "a" (sound, one box) and "b" (two boxes), to be spoiled before they are written.

    Attributes:
        boxes: of image b: class, then x1, y1, x2, y2 as VOC writes them: pixels from 1, both ends included.
        size: of image b, as its annotation says.
        file: name of image b.
        extra_xml, list_lines, json_changes: put into b's XML, the list, the JSON file.
    """

    root: Path
    layout: str
    boxes: list[tuple[Any, ...]] = field(default_factory=lambda: [("cat", 3, 4, 12, 13), ("dog", 20, 5, 30, 20)])
    size: tuple[Any, Any] = (WIDTH, HEIGHT)
    file: str = "b.png"
    xml_head: str = ""
    list_lines: list[str] = field(default_factory=lambda: ["a", "b"])
    classes: list[str] = field(default_factory=list)
    change: Callable[[dict[str, Any]], None] = lambda content: None

    @property
    def image(self) -> Path:
        return self.root / "JPEGImages" / self.file

    def save_image(self, image: Image.Image | None = None, **options: Any) -> None:
        self.image.parent.mkdir(parents=True, exist_ok=True)
        (image or picture()).save(self.image, **options)

    def write(self) -> None:
        for part in ("JPEGImages", "Annotations", "ImageSets/Main", "annotations"):
            (self.root / part).mkdir(parents=True, exist_ok=True)
        picture().save(self.root / "JPEGImages" / "a.png")
        if self.layout == VOC:
            first = self._xml([("cat", 1, 1, 10, 10)], (WIDTH, HEIGHT))
            (self.root / "Annotations" / "a.xml").write_text(first)
            (self.root / "Annotations" / "b.xml").write_text(self.xml_head + self._xml(self.boxes, self.size))
            (self.root / "ImageSets" / "Main" / "train.txt").write_text("\n".join(self.list_lines))
        else:
            (self.root / "annotations" / "instances_train.json").write_text(json.dumps(self._json()))

    def _xml(self, boxes: list[tuple[Any, ...]], size: tuple[Any, Any]) -> str:
        corners = ("xmin", "ymin", "xmax", "ymax")
        objects = "".join(
            f"<object><name>{name}</name><bndbox>"
            + "".join(f"<{c}>{v}</{c}>" for c, v in zip(corners, box, strict=False))
            + "</bndbox></object>"
            for name, *box in boxes
        )
        return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"

    def _json(self) -> dict[str, Any]:
        names = ["cat", "dog"]
        images = [
            {"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
            {"id": 2, "file_name": self.file, "width": self.size[0], "height": self.size[1]},
        ]
        annotations = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10], "area": 100, "iscrowd": 0}]
        for name, *box in self.boxes:
            whole = len(box) == 4
            xywh = [box[0] - 1, box[1] - 1, box[2] - box[0] + 1, box[3] - box[1] + 1] if whole else box
            entry = {"image_id": 2, "category_id": names.index(name) + 1, "bbox": xywh, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "area": 50, **entry})
        categories = [{"id": k + 1, "name": name} for k, name in enumerate(names)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        self.change(content)
        return content

    def load(self, **policies: str) -> list[dict[str, Any]]:
        forget("checked")
        spec = {"NAME": "checked", "LAYOUT": self.layout, "ROOT": str(self.root), "SPLIT": "train"}
        spec["CLASSES"] = self.classes or ["cat", "dog"]
        pairs = [str(x) for k, v in policies.items() for x in (f"DATASETS.CHECKS.{k.upper()}", v)]
        use_datasets(read_config("", ["DATASETS.REGISTER", str([spec]), *pairs]))
        return load_dataset("checked")


def picture(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    ramp = np.arange(width * height * 3, dtype=np.int64).reshape(height, width, 3)
    return Image.fromarray((ramp % 251).astype(np.uint8))


@pytest.fixture(autouse=True)
def _own_cache(cache_folder: Path) -> None:
    pass


def swap(data: DataSet, **values: Any) -> None:
    for key, value in values.items():
        setattr(data, key, value)


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def png_in_jpg(data: DataSet) -> None:
    data.file = "b.jpg"
    data.save_image(format="PNG")


def converted(mode: str, file: str = "b.png") -> Callable[[DataSet], None]:
    def spoil(data: DataSet) -> None:
        data.file = file
        data.save_image(picture().convert(mode))

    return spoil


def deep(data: DataSet) -> None:
    data.save_image(Image.fromarray(np.full((HEIGHT, WIDTH), 0x8040, np.uint16)))


def floating(data: DataSet) -> None:
    data.file = "b.tif"
    data.save_image(Image.fromarray(np.full((HEIGHT, WIDTH), 0.5, np.float32)))


def truncated(data: DataSet) -> None:
    data.save_image()
    whole = data.image.read_bytes()
    data.image.write_bytes(whole[: len(whole) // 2])


def no_image(data: DataSet) -> None:
    data.save_image()
    data.image.write_bytes(b"<html>not found</html>")


def in_json(key: str, index: int, **values: Any) -> Callable[[DataSet], None]:
    """Change an entry of the JSON file (or append one, with index -1: a copy of the last)."""

    def spoil(data: DataSet) -> None:
        def change(content: dict[str, Any]) -> None:
            if index < 0:
                content[key].append(dict(content[key][-1]))
            content[key][index].update(values)

        data.change = change

    return spoil


def boxes(*given: tuple[Any, ...]) -> Callable[[DataSet], None]:
    return lambda data: swap(data, boxes=list(given))


DOG = ("dog", 20, 5, 30, 20)
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
    ("nonfinite_box", (VOC,), boxes(("cat", 1, 2, "nan", 3), DOG), "is not finite"),
    ("nonfinite_box", (COCO,), in_json("annotations", 1, bbox=[1, 2, float("inf"), 3]), "is not finite"),
    ("inverted_box", (VOC, COCO), boxes(("cat", 12, 4, 3, 13), DOG), "ends before it begins"),
    ("degenerate_box", (COCO,), in_json("annotations", 1, bbox=[5, 6, 0, 7]), "no width or no height"),
    ("one_pixel_box", (VOC,), boxes(("cat", 7, 4, 7, 13), DOG), r"from \(7, 4\) to \(7, 13\)"),
    ("out_of_image_box", (VOC, COCO), boxes(("cat", 30, 20, 60, 30), DOG), "leaves the image of 40 x 24"),
    ("unknown_class", (VOC,), boxes(("Cat", 1, 2, 3, 4), DOG), "'Cat', which is not in cat, dog"),
    ("unknown_class", (COCO,), in_json("annotations", 1, category_id=7), "category_id 7: not listed"),
    ("unselected_class", (COCO,), lambda d: swap(d, classes=["dog"]), "2 of category cat"),
    ("unknown_image", (COCO,), in_json("annotations", 1, image_id=9), "belongs to image 9"),
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


def spoiled(root: Path, layout: str, spoil: Callable[[DataSet], None]) -> DataSet:
    data = DataSet(root, layout)
    data.save_image()
    spoil(data)
    data.write()
    return data


def test_every_kind_has_a_case_in_each_layout_that_can_have_it() -> None:
    assert {kind for kind, *_ in CASES} == set(KINDS) - {"no_mask"}  # which is one in training alone, see below


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
    if kind == "duplicate_image_id":
        assert kept == {"a": 1, "b": 2}  # the repetition is what is dropped
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
    assert [len(record["annotations"]) for record in records] == [1, 2]
    assert checks_of("checked").counts == {kind: 1}
    assert "repaired: " in checks_of("checked").table()
    for record in records:  # what training will read is what the record says
        assert read_image(record, "RGB").shape == (record["height"], record["width"], 3)


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


@pytest.mark.parametrize(("given", "crowd"), [(None, 0), (0, 0), (False, 0), (1, 1), (True, 1), (1.0, 1)])
def test_iscrowd_is_0_or_1(tmp_path: Path, given: Any, crowd: int) -> None:
    records = spoiled(tmp_path, COCO, in_json("annotations", 1, iscrowd=given)).load()
    found = records[1]["annotations"][0]["iscrowd"]
    assert (found, type(found)) == (crowd, int)
    assert ground_truth(records, ["cat", "dog"]).crowd.tolist() == [False, bool(crowd), False]


def test_an_area_of_null_is_that_of_the_box(tmp_path: Path) -> None:
    records = spoiled(tmp_path, COCO, in_json("annotations", 1, area=None)).load()
    assert ground_truth(records, ["cat", "dog"]).area.tolist() == [100, 100, 50]  # as written, the box, as written


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
