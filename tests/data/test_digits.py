"""The embedded digits: partition, drawing, and the two generated sets read back by their real readers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image
from pycocotools.coco import COCO

from clop_det.data import digit_scenes
from clop_det.data.cluttered_digits import draw_cluttered
from clop_det.data.digit_scenes import draw_scene, write_scenes
from clop_det.data.digits import (
    CLASSES,
    DIGIT_CONTRAST,
    digit_pool,
    draw_fragment,
    draw_glyph,
    image_rng,
    source_digits,
)
from clop_det.data.layouts import read_images


def _members(pool: str) -> set[int]:
    return {index for members in digit_pool(pool).by_label for index in members}


def test_partition_is_complete_disjoint_and_stratified() -> None:
    images, labels = source_digits()
    assert images.shape == (1797, 8, 8)
    assert _members("train") | _members("test") == set(range(1797))
    assert not _members("train") & _members("test")
    for label in range(10):
        train, test = (digit_pool(pool).by_label[label] for pool in ("train", "test"))
        assert {labels[index] for index in (*train, *test)} == {label}
        assert len(train) == pytest.approx(0.7 * (len(train) + len(test)), abs=0.51)
        assert max(train) < min(test)  # the test digits come last in the file: other writers
    with pytest.raises(ValueError, match="pool must be one of"):
        digit_pool("val")


def test_no_source_image_is_in_both_pools() -> None:
    images, _ = source_digits()
    train, test = ({images[index].tobytes() for index in _members(pool)} for pool in ("train", "test"))
    assert not train & test


@pytest.mark.parametrize("height", [10, 24, 60])
def test_glyphs_are_tight_and_about_as_high_as_asked(height: int) -> None:
    for index in range(0, 200, 7):
        mask = draw_glyph(index, height, image_rng(0, "test", index))
        ink = mask >= 96
        assert all(edge.any() for edge in (ink[0], ink[-1], ink[:, 0], ink[:, -1]))
        assert 0.7 * height < mask.shape[0] < 1.45 * height


def test_a_glyph_looks_like_its_source() -> None:
    """Shrunk to 8 rows again, a drawn digit is closer to its own source than to nearly all others."""
    images, _ = source_digits()
    sources = images.reshape(len(images), -1).astype(np.float64)
    sources = (sources - sources.mean(1, keepdims=True)) / sources.std(1, keepdims=True)
    ranks = []
    for index in range(0, 1797, 40):
        mask = Image.fromarray(draw_glyph(index, 40, image_rng(0, "look", index)))
        width = max(1, round(8 * mask.width / mask.height))
        canvas = Image.new("L", (8, 8))
        canvas.paste(mask.resize((min(width, 8), 8)), (max(0, (8 - width) // 2), 0))
        drawn = np.asarray(canvas, dtype=np.float64).ravel()
        scores = sources @ ((drawn - drawn.mean()) / drawn.std())
        ranks.append((scores > scores[index]).sum())
    assert np.median(ranks) < 100  # of 1,797, after a random turn, shear and stretch


def test_fragments_are_smaller_than_the_digit() -> None:
    for index in range(60):
        whole = draw_glyph(index, 40, image_rng(0, "piece", index))
        piece = draw_fragment(index, 40, image_rng(0, "piece", index))  # the same random stream: the same glyph, cut
        assert piece.shape[0] <= 0.5 * whole.shape[0] or piece.shape[1] <= 0.5 * whole.shape[1]


def test_no_fragment_is_cut_from_a_one() -> None:
    rng, labels = np.random.RandomState(0), source_digits()[1]
    picked = {int(labels[digit_pool("train").pick_for_fragment(rng)]) for _ in range(300)}
    assert picked == {0, 2, 3, 4, 5, 6, 7, 8, 9}


def test_an_image_depends_on_its_own_name_alone() -> None:
    pixels, digit, fragments = draw_cluttered("val", 13, 32, 4)
    for other in range(5):
        draw_cluttered("train", other, 32, 0)
    again = draw_cluttered("val", 13, 32, 4)
    assert np.array_equal(pixels, again[0])
    assert (digit, fragments) == again[1:]
    different = [draw_cluttered("val", 13, 32, 5), draw_cluttered("train", 13, 32, 4), draw_cluttered("val", 23, 32, 4)]
    assert not any(np.array_equal(pixels, other[0]) for other in different)


def test_another_process_draws_the_same_pixels() -> None:
    code = (
        "import zlib; from clop_det.data.cluttered_digits import draw_cluttered as c;"
        "from clop_det.data.digit_scenes import draw_scene as s;"
        "print(zlib.crc32(c('train', 7, 32, 1)[0].tobytes()), zlib.crc32(s('test', 3, 128, 1).pixels.tobytes()))"
    )
    import zlib

    here = [draw_cluttered("train", 7, 32, 1)[0], draw_scene("test", 3, 128, 1).pixels]
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split()[-2:] == [str(zlib.crc32(pixels.tobytes())) for pixels in here]


# Mean colours of the quarters of a cluttered digit and of a scene.
COARSE_COLOURS = [
    [[[113.4, 85.5, 97.2], [164.9, 158.3, 159.4]], [[107.9, 101.8, 108.8], [147.1, 123.1, 128.9]]],
    [[[96.1, 90.4, 109.8], [87.7, 92.9, 122.2]], [[91.3, 83.4, 109.5], [83.4, 92.8, 110.9]]],
]


def test_pixels_have_not_changed_unnoticed() -> None:
    """If the coarse colours of two images change, raise GENERATOR_VERSION and write down the new ones."""
    cluttered, scene = draw_cluttered("train", 3, 32, 0)[0], draw_scene("train", 1, 128, 0).pixels
    quarters = [x.reshape(2, side // 2, 2, side // 2, 3).mean((1, 3)) for x, side in ((cluttered, 32), (scene, 128))]
    # Half a grey level leaves room for a pixel that another mathematics library rounds differently.
    np.testing.assert_allclose(np.stack(quarters), COARSE_COLOURS, atol=0.5)


def test_manifest_proves_the_partition(cluttered: Path, scenes: Path) -> None:
    for folder in (cluttered, scenes):
        images = json.loads((folder / "manifest.json").read_text())["images"]
        on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
        on_disk |= {path.name for path in folder.rglob("*.jpg")}
        assert set(images) == on_disk
        for entry in images.values():
            used = {*entry["digits"], *entry["fragments"]}
            assert used <= _members("train" if entry["split"] == "train" else "test")


def test_cluttered_digits_are_a_folder_of_classes(cluttered: Path) -> None:
    labels = source_digits()[1]
    manifest = json.loads((cluttered / "manifest.json").read_text())["images"]
    for split, count in (("train", 60), ("val", 40)):
        images = read_images("folder", cluttered, split)
        assert images.classes == CLASSES
        assert images.labels.bincount().tolist() == [count // 10] * 10
        for file, label in zip(images.files, images.labels.tolist(), strict=True):
            (digit,) = manifest[file]["digits"]
            assert labels[digit] == label
            with Image.open(cluttered / file) as image:
                assert (image.size, image.mode) == ((24, 24), "RGB")


def test_a_stored_image_is_the_drawn_one(cluttered: Path) -> None:
    with Image.open(cluttered / "val" / "7" / "000017.png") as image:
        assert np.array_equal(np.asarray(image), draw_cluttered("val", 17, 24, 0)[0])


def test_boxes_are_the_ink_that_was_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    painted: list[tuple[int, int, int, int]] = []
    original = digit_scenes.paste

    def record(canvas, mask, left, top, rng, contrast):  # type: ignore[no-untyped-def]
        if contrast == DIGIT_CONTRAST:
            rows, columns = np.nonzero(mask >= 96)
            painted.append((left + columns.min(), top + rows.min(), left + columns.max() + 1, top + rows.max() + 1))
        original(canvas, mask, left, top, rng, contrast)

    monkeypatch.setattr(digit_scenes, "paste", record)
    for index in range(20):
        painted.clear()
        scene = draw_scene("train", index, 128, 0)
        assert painted == [(item.x0, item.y0, item.x1, item.y1) for item in scene.objects]
        assert 1 <= len(scene.objects) <= 6


def test_digits_lie_inside_and_hardly_overlap() -> None:
    labels = source_digits()[1]
    for index in range(30):
        scene = draw_scene("val", index, 96, 0)
        covered = np.zeros((96, 96), dtype=np.int64)
        areas = []
        for item in scene.objects:
            assert 0 <= item.x0 < item.x1 <= 96
            assert 0 <= item.y0 < item.y1 <= 96
            assert labels[item.source] == item.label
            covered[item.y0 : item.y1, item.x0 : item.x1] += 1
            areas.append((item.y1 - item.y0) * (item.x1 - item.x0))
        assert (covered > 1).sum() <= 0.04 * sum(areas)


def test_detectron2_reads_the_same_boxes_from_both_layouts(scenes: Path) -> None:
    from detectron2.data.datasets.coco import load_coco_json
    from detectron2.data.datasets.pascal_voc import load_voc_instances

    total = 0
    for split, count in (("train", 8), ("val", 5), ("test", 6)):
        voc = load_voc_instances(str(scenes / "VOC2007"), split, CLASSES)
        coco = load_coco_json(
            str(scenes / "annotations" / f"instances_{split}.json"),
            str(scenes / "VOC2007" / "JPEGImages"),
            f"digit_scenes_of_this_test_{split}",  # with a name, category ids become labels from 0
        )
        assert len(voc) == len(coco) == count
        for one, other in zip(voc, coco, strict=True):
            assert Path(one["file_name"]) == Path(other["file_name"])
            assert (one["height"], one["width"]) == (other["height"], other["width"]) == (96, 96)
            corners = [[x, y, x + w, y + h] for x, y, w, h in (item["bbox"] for item in other["annotations"])]
            assert [item["bbox"] for item in one["annotations"]] == corners
            labels = [item["category_id"] for item in one["annotations"]]
            assert labels == [item["category_id"] for item in other["annotations"]]
            total += len(corners)
    assert total > 19


def test_image_sets_are_disjoint_and_trainval_joins_two(scenes: Path) -> None:
    sets = {path.stem: path.read_text().split() for path in (scenes / "VOC2007" / "ImageSets" / "Main").glob("*.txt")}
    assert sets["trainval"] == sets["train"] + sets["val"]
    names = [*sets["train"], *sets["val"], *sets["test"]]
    assert len(names) == len(set(names)) == 19
    assert sorted(names) == sorted(path.stem for path in (scenes / "VOC2007" / "Annotations").iterdir())


def test_coco_annotations_name_their_source_digit(scenes: Path) -> None:
    labels = source_digits()[1]
    coco = COCO(str(scenes / "annotations" / "instances_test.json"))
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    for annotation in coco.dataset["annotations"]:
        assert labels[annotation["source_digit"]] == annotation["category_id"] - 1
        assert annotation["source_digit"] in _members("test")
    for image in coco.dataset["images"]:
        assert set(image["fragment_digits"]) <= _members("test")


def test_masks_are_the_ink_that_nothing_covers(scenes: Path) -> None:
    coco = COCO(str(scenes / "annotations" / "instances_test.json"))
    uncovered = 0
    for index, (image, digits) in enumerate(sorted(coco.imgToAnns.items())):
        masks = np.stack([coco.annToMask(digit) for digit in digits])
        assert masks.sum(axis=0).max() == 1  # a pixel shows one digit
        picture = np.asarray(Image.open(scenes / "VOC2007" / "JPEGImages" / coco.imgs[image]["file_name"]), dtype=int)
        assert np.abs(picture - draw_scene("test", index, 96, 0).pixels).mean() < 4  # the JPEG of this scene
        for annotation, mask in zip(digits, masks, strict=True):
            x, y, w, h = annotation["bbox"]
            assert annotation["area"] == mask.sum() == mask[y : y + h, x : x + w].sum() > 0
            uncovered += mask_util.toBbox(coco.annToRLE(annotation)).tolist() == [x, y, w, h]
            # Ink is one colour, mixed with the ground where it is thin: most of a mask is nearer to its own median
            # than the rest of its box is.
            inside, around = (picture[y : y + h, x : x + w][mask[y : y + h, x : x + w] == part] for part in (1, 0))
            colour = np.median(inside, axis=0)
            assert np.median(np.abs(inside - colour).sum(1)) < np.median(np.abs(around - colour).sum(1))
    assert uncovered >= 0.8 * len(coco.anns)


def test_a_larger_set_begins_with_the_smaller(scenes: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path, train=3, val=1, test=1, size=96, seed=0)
    for name in ("000001", "000003"):
        small, large = (folder / "VOC2007" / "JPEGImages" / f"{name}.jpg" for folder in (tmp_path, scenes))
        assert small.read_bytes() == large.read_bytes()
