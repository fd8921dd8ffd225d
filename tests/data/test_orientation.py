"""EXIF's orientation: every value turns as Pillow does; odd tags and odd values turn nothing and break nothing."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from clop_det.annotations.checks import read_facts
from clop_det.annotations.images import AS_STORED, read_image
from clop_det.data.decoding import decode
from clop_det.data.image_list import ImageList
from clop_det.data.layouts import read_images
from clop_det.data.orientation import orientation, upright
from clop_det.data.store import open_store

Entry = tuple[int, int, int, bytes]  # tag, type, count, value
SIX: Entry = (0x0112, 3, 1, struct.pack("<HH", 6, 0))


def _pixels() -> np.ndarray:  # type: ignore[type-arg]
    return np.kron(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, np.ones((8, 8), np.uint8))


def _jpeg(*entries: Entry) -> bytes:
    """A JPEG of 24 x 16 pixels whose EXIF holds these entries, well-formed or not."""
    file = io.BytesIO()
    Image.fromarray(_pixels()).convert("RGB").save(file, "JPEG", quality=95)
    plain = file.getvalue()
    packed = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in sorted(entries))
    body = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + packed + bytes(4)
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("value", range(10))
def test_every_value_turns_as_pillow_does(form: str, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    file = io.BytesIO()
    Image.fromarray(_pixels()).convert("RGB").save(file, form, exif=exif)
    with Image.open(file) as one, Image.open(file) as other:
        expected = np.asarray(ImageOps.exif_transpose(other))
        assert np.array_equal(np.asarray(upright(one)), expected)
    assert np.array_equal(np.asarray(decode(file.getvalue(), "x")), expected)


@pytest.mark.parametrize(
    "odd",
    [
        (0x0128, 1, 1, b"\x02\0\0\0"),  # ResolutionUnit as BYTE
        (0x0128, 2, 2, b"2\0\0\0"),  # as ASCII
        (0x011A, 1, 1, b"H\0\0\0"),  # XResolution as BYTE
        (0x010F, 11, 1, b"abcd"),  # Make as FLOAT
    ],
)
def test_an_odd_tag_beside_the_orientation_is_not_looked_at(tmp_path: Path, odd: Entry) -> None:
    content = _jpeg(SIX, odd)
    with pytest.raises((struct.error, TypeError, AttributeError)), Image.open(io.BytesIO(content)) as image:
        ImageOps.exif_transpose(image)  # the reason for a function of our own
    expected = np.asarray(decode(_jpeg(SIX), "x"))
    assert expected.shape == (24, 16, 3)
    assert np.array_equal(np.asarray(decode(content, "x")), expected)
    (tmp_path / "train" / "a").mkdir(parents=True)
    path = tmp_path / "train" / "a" / "x.jpg"
    path.write_bytes(content)
    listed: ImageList = read_images("folder", tmp_path, "train")
    assert len(open_store(listed, 8, tmp_path / "stores")) == 1
    assert read_facts(path).upright_size == (16, 24)
    for record, shape in (({}, (24, 16, 3)), ({AS_STORED: True}, (16, 24, 3))):
        assert read_image({"file_name": str(path), **record}, "RGB").shape == shape


@pytest.mark.parametrize(
    "odd",
    [
        (0x0112, 2, 2, b"6\0\0\0"),  # ASCII "6"
        (0x0112, 3, 1, struct.pack("<HH", 9, 0)),
        (0x0112, 12, 1, b"\xff\xff\xff\xff"),  # a value that lies nowhere
        (0x0112, 77, 1, bytes(4)),
    ],
)
def test_an_odd_orientation_turns_nothing_anywhere(tmp_path: Path, odd: Entry) -> None:
    content = _jpeg(odd)
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    assert decode(content, "x").size == (24, 16)
    assert read_facts(path).orientation == 1
    assert read_image({"file_name": str(path)}, "RGB").shape == (16, 24, 3)


def test_exif_that_is_none_turns_nothing() -> None:
    content = _jpeg(SIX).replace(b"II*\0", b"??*\0")
    with Image.open(io.BytesIO(content)) as image:
        assert orientation(image) == 1
    assert decode(content, "x").size == (24, 16)
