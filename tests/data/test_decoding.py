"""Decoding: every mode and orientation becomes upright RGB; boxes are cut as torchvision cuts them."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.v2 import functional as reference

from clop_det.annotations.checks import read_facts
from clop_det.data.decoding import IMAGE_SUFFIXES, UnreadableImage, centre_square, decode, resized_box


def _decode(path: Path, size: int) -> np.ndarray:  # type: ignore[type-arg]
    return centre_square(decode(path.read_bytes(), path.name), size)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("RGBA", (10, 20, 30, 128), (10, 20, 30)),
        ("I;16", 77 * 256 + 13, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("P", 0, None),
        ("CMYK", (0, 0, 0, 0), (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str, value: object, expected: object) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new(mode, (9, 9), value).save(path)  # type: ignore[arg-type]
    pixels = _decode(path, 6)
    assert pixels.shape == (3, 6, 6)
    if expected is not None:
        assert tuple(pixels[:, 3, 3]) == expected


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    pixels = np.zeros((10, 10, 3), dtype=np.uint8)
    pixels[:5] = 255  # white above
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 3  # stored upside down
    image.save(tmp_path / "x.png", exif=exif)
    decoded = _decode(tmp_path / "x.png", 10)
    assert decoded[:, 0].max() == 0
    assert decoded[:, -1].min() == 255


@pytest.mark.parametrize(("width", "height", "size"), [(50, 37, 24), (37, 50, 64), (24, 24, 24), (200, 90, 7)])
def test_a_box_is_torchvisions_resized_crop(width: int, height: int, size: int) -> None:
    rng = np.random.default_rng(width)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    for _ in range(5):
        w, h = int(rng.integers(1, width + 1)), int(rng.integers(1, height + 1))
        left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
        cut = resized_box(image, (left / width, top / height, w / width, h / height), size)
        expected = reference.resized_crop(image, top, left, h, w, [size, size], antialias=True)
        assert np.array_equal(cut.transpose(1, 2, 0), np.asarray(expected))


def test_a_box_of_less_than_a_pixel_is_one_pixel_inside() -> None:
    image = Image.fromarray(np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3))
    cut = resized_box(image, (0.999, 0.999, 0.001, 0.001), 2)
    assert np.array_equal(cut[:, 0, 0], np.asarray(image)[4, 3])
    assert (cut == cut[:, :1, :1]).all()


@pytest.mark.parametrize("content", [b"", b"text", b"\xff\xd8\xff\xe0 not a JPEG"])
def test_what_is_no_image_is_named(content: bytes) -> None:
    with pytest.raises(UnreadableImage, match="cannot read image some/name.jpg: .*Replace or remove the file"):
        decode(content, "some/name.jpg")


def test_too_many_pixels_are_refused_without_touching_the_filters_of_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    Image.new("L", (30, 20)).save(file, "PNG")
    content = file.getvalue()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    assert decode(content, "x.png").size == (30, 20)
    monkeypatch.setattr(warnings, "catch_warnings", lambda **_: pytest.fail("filters belong to the process"))
    for limit in (599, 200):  # Pillow itself warns past the limit and refuses past twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(UnreadableImage, match=r"cannot read image x.png: .*(600|30 x 20) pixels"):
            decode(content, "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert decode(content, "x.png").size == (30, 20)


def test_floating_point_numbers_are_refused(tmp_path: Path) -> None:
    Image.new("F", (9, 9), 300.0).save(tmp_path / "x.tif")
    with pytest.raises(UnreadableImage, match="floating-point"):
        decode((tmp_path / "x.tif").read_bytes(), "x.tif")


def _grey(values: list[int], dtype: type) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.array([values], dtype=dtype)).save(file, "TIFF")
    return file.getvalue()


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (12, 4095), (16, 65535), (20, 2**20 - 1)])
def test_deep_grey_is_scaled_by_the_bits_of_its_values(monkeypatch: pytest.MonkeyPatch, bits: int, white: int) -> None:
    monkeypatch.setattr("clop_det.data.decoding._grey_bits", bits)
    image = decode(_grey([0, white // 2, white], np.int32), "x.tif")
    assert np.asarray(image)[0, :, 0].tolist() == [0, 127, 255]
    with pytest.raises(UnreadableImage, match=rf"a grey value of {white + 1} is beyond INPUT.GREY_BITS {bits}. Set"):
        decode(_grey([0, white + 1], np.int32), "x.tif")


def test_only_listed_formats_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript is a program; Pillow would give it to Ghostscript."""
    Image.new("RGB", (8, 8), "red").save(tmp_path / "photo.jpg", "EPS")
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    with pytest.raises(UnreadableImage, match="not an image of a known format"):
        decode((tmp_path / "photo.jpg").read_bytes(), "photo.jpg")
    assert read_facts(tmp_path / "photo.jpg").fault == "unreadable"


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "dib", "gif", "tif", "webp", "ppm", "pgm", "jp2", "avif"])
def test_every_format_of_a_suffix_that_is_listed_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.{suffix}"
    assert path.suffix in IMAGE_SUFFIXES
    Image.new("L" if suffix == "pgm" else "RGB", (40, 30)).save(path)
    assert decode(path.read_bytes(), path.name).size == (40, 30)


def test_a_picture_that_breaks_in_the_middle_is_refused_although_it_has_exif() -> None:
    file = io.BytesIO()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    exif = noise.getexif()
    exif[0x0112] = 1
    noise.save(file, "PNG", exif=exif)
    content = bytearray(file.getvalue())
    middle = content.index(b"IDAT") + 6000
    content[middle : middle + 40] = bytes(40)
    for turn in (True, False):
        with pytest.raises(UnreadableImage, match="cannot read image x.png"):
            decode(bytes(content), "x.png", turn)
