"""Test images among those learnt from: copies are found, other pictures are not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.config import CfgNode
from PIL import Image

from clop_det.annotations.overlap import Prints, check_overlap, common_images, describe, prints_of
from clop_det.data.building import cache_folder
from clop_det.data.image_sources import FileSource
from clop_det.errors import UserError

pytestmark = pytest.mark.usefixtures("cache_folder")


def photograph(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Smooth noise: random colours on a grid, enlarged."""
    grid = np.random.default_rng(seed).integers(0, 256, (15, 20, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)


def prints(files: list[Path]) -> Prints:
    names = list(map(str, files))
    return prints_of(FileSource(Path(), names), names)


def write(folder: Path, images: dict[str, Image.Image], **options: Any) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        image.save(folder / name, **options)
    return [folder / name for name in images]


def test_copies_of_another_size_and_quality_are_found_and_nothing_else(tmp_path: Path) -> None:
    originals = write(tmp_path / "a", {f"{i}.png": photograph(i) for i in range(20)})
    small = {f"{i}.jpg": photograph(i).resize((160, 120), Image.Resampling.LANCZOS) for i in (3, 7)}
    squeezed = {f"{i}.webp": photograph(i).resize((200, 200)) for i in (11,)}
    others = {f"{i}.jpg": photograph(i) for i in range(100, 120)}
    test = write(tmp_path / "b", small, quality=40) + write(tmp_path / "b", squeezed) + write(tmp_path / "b", others)
    assert common_images(prints(originals), prints(test)) == [(3, 0), (7, 1), (11, 2)]


def test_equal_bytes_are_found_where_a_picture_shows_nothing(tmp_path: Path) -> None:
    flat = {"a.png": Image.new("RGB", (40, 40), "red"), "b.png": Image.new("RGB", (40, 40), (250, 2, 2))}
    one, other = write(tmp_path / "a", flat), write(tmp_path / "b", {"c.png": flat["b.png"]})
    assert common_images(prints(one), prints(other)) == [(1, 0)]


@pytest.mark.parametrize(
    ("data_set", "train", "test"),
    [
        ("bccd_voc", "ImageSets/Main/trainval.txt", "ImageSets/Main/test.txt"),
        ("aquarium_det", "ImageSets/Main/train.txt", "ImageSets/Main/test.txt"),
    ],
)
def test_no_false_alarm_on_photographs_of_one_series(real_data: Path, data_set: str, train: str, test: str) -> None:
    root = real_data / data_set
    ids = [(root / name).read_text().split() for name in (train, test)]
    assert common_images(*(prints([root / "JPEGImages" / f"{name}.jpg" for name in names]) for names in ids)) == []


def test_prints_are_kept_until_a_file_changes_and_made_anew_where_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOP_DET_CACHE", str(tmp_path / "cache"))
    files = write(tmp_path / "a", {f"{i}.png": photograph(i) for i in range(3)})
    first = prints(files)
    monkeypatch.setattr("clop_det.annotations.overlap._print_of", lambda *_: pytest.fail("read again"))
    assert np.array_equal(prints(files).pictures, first.pictures)
    monkeypatch.undo()
    monkeypatch.setenv("CLOP_DET_CACHE", str(tmp_path / "cache"))
    (kept,) = (cache_folder() / "image_prints").glob("*.npz")
    kept.write_bytes(kept.read_bytes()[:500])
    assert np.array_equal(prints(files).digests, first.digests)
    photograph(9).save(files[1])
    assert not np.array_equal(prints(files).digests, first.digests)


def test_a_test_image_among_the_training_images_is_refused_unless_allowed_by_name(
    tiny_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = check_overlap(tiny_cfg)
    assert found["test_sets"] == ["shapes_voc_test"]
    assert list(found["images"].values()) == [12, 30]
    assert describe(found).startswith("no image of shapes_voc_test is among those learnt from (12 of shapes_voc_train")

    def same(learnt: Prints, tested: Prints) -> list[tuple[int, int]]:
        return [(2, 1), (4, 1)] if "shapes" in learnt.names[0] else []

    monkeypatch.setattr("clop_det.annotations.overlap.common_images", same)
    with pytest.raises(UserError, match=r"1 of 6 images of the test set .*test_01\.png, .*train_02\.png"):
        check_overlap(tiny_cfg)
    tiny_cfg.DATASETS.OVERLAP_ALLOWED = ("shapes_voc_test",)
    assert "may share images" in describe(check_overlap(tiny_cfg))
    tiny_cfg.DATASETS.OVERLAP_ALLOWED = ("other",)
    with pytest.raises(UserError, match="OVERLAP_ALLOWED names other"):
        check_overlap(tiny_cfg)


def test_a_test_image_among_the_pretraining_images_is_refused(
    tiny_cfg: CfgNode, crops_root: Path, tmp_path: Path, shapes_root: Path
) -> None:
    tiny_cfg.CLASSIFICATION.ROOT = str(tmp_path / "classes")
    (tmp_path / "classes" / "train" / "a").mkdir(parents=True)
    with Image.open(shapes_root / "JPEGImages" / "test_03.png") as image:
        image.resize((96, 96)).save(tmp_path / "classes" / "train" / "a" / "copy.bmp")
    with pytest.raises(UserError, match=r"among the images of CLASSIFICATION.ROOT .*test_03\.png, .*a/copy\.bmp"):
        check_overlap(tiny_cfg)


def test_an_unreadable_image_is_no_copy_of_another(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(f"no image {name}".encode())
    one, other = prints([tmp_path / "a.png"]), prints([tmp_path / "b.png"])
    assert common_images(one, other) == []
    assert common_images(one, dataclasses.replace(other, digests=one.digests)) == [(0, 0)]


def test_a_test_set_without_an_image_has_nothing_in_common(tmp_path: Path) -> None:
    one = prints(write(tmp_path, {"a.png": photograph(1)}))
    nothing = prints([])
    assert (nothing.digests.shape, nothing.pictures.shape) == ((0, 32), (0, 32, 32))
    assert common_images(one, nothing) == common_images(nothing, one) == common_images(nothing, nothing) == []
