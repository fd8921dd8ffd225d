"""Data sets that hold no picture: flat, black, and the cause where deep grey files hold few bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clop_det.config.reading import read_config
from clop_det.data.decoding import decode
from clop_det.data.flat import check_not_flat
from clop_det.data.opening import list_images, open_images
from clop_det.errors import UserError


def _look(tmp_path: Path, images: list[np.ndarray], suffix: str = "png") -> None:  # type: ignore[type-arg]
    names = [f"{i}.{suffix}" for i in range(len(images))]
    for name, pixels in zip(names, images, strict=True):
        Image.fromarray(pixels).save(tmp_path / name)

    def content(index: int) -> bytes:
        return (tmp_path / names[index]).read_bytes()

    check_not_flat(names, lambda index: np.asarray(decode(content(index), names[index])), content)


def _noise(top: int, dtype: type = np.uint8) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(top).integers(0, top, (9, 9)).astype(dtype)


def test_pictures_pass_with_a_few_flat_ones(tmp_path: Path) -> None:
    _look(tmp_path, [_noise(200), _noise(250), np.full((9, 9), 7, np.uint8), np.full((9, 9), 255, np.uint8)])


def test_mostly_flat_colours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 of 3 images looked at are one flat colour \(such as 1.png\). Look at"):
        _look(tmp_path, [_noise(200), np.full((9, 9), 7, np.uint8), np.full((9, 9), 255, np.uint8)])


@pytest.mark.parametrize(
    ("top", "dtype", "fault", "bits"),
    [
        (256, np.uint16, "2 of 2 images looked at are one flat colour", 8),
        (256, np.int32, "2 of 2 images looked at are one flat colour", 8),
        (4096, np.uint16, "no pixel of 2 images looked at is brighter than 1[0-5] of 255", 12),
    ],
)
def test_few_bits_in_deep_files_are_the_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, top: int, dtype: type, fault: str, bits: int
) -> None:
    images = [_noise(top, dtype), _noise(top - 9, dtype)]
    with pytest.raises(UserError, match=rf"{fault}.*set INPUT.GREY_BITS {bits}\."):
        _look(tmp_path, images, "tif")
    monkeypatch.setattr("clop_det.data.decoding._grey_bits", bits)
    _look(tmp_path, images, "tif")


def test_a_classification_set_is_looked_at_before_it_is_decoded(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / split / "a" / "1.png")
    settings = read_config("", ["CLASSIFICATION.ROOT", str(tmp_path)]).CLASSIFICATION
    with pytest.raises(UserError, match="1 of 1 images looked at are one flat colour"):
        open_images(settings, list_images(settings, "train"))
