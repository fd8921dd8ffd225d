"""The quick look at a JPEG's header: what Pillow says, or nothing."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clop_det.data.decoding import BROKEN, extent_of, open_header
from clop_det.data.jpeg_header import ENOUGH, Frame, ordinary_frame
from clop_det.data.orientation import upright_extent


def _file(
    mode: str = "RGB", size: tuple[int, int] = (203, 149), turn: int = 0, form: str = "JPEG", **options: object
) -> bytes:
    file, exif = io.BytesIO(), Image.Exif()
    if turn:
        exif[0x0112] = turn
        options["exif"] = exif
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(file, form, **options)  # type: ignore[arg-type]
    return file.getvalue()


ORDINARY = [
    *({"subsampling": name} for name in ("4:4:4", "4:2:2", "4:2:0")),
    {"progressive": True},
    {"optimize": True, "restart_marker_blocks": 4},
    {"keep_rgb": True},
    {"mode": "L"},
    {"comment": b"a comment"},
    {"size": (1, 1)},
    {"size": (300, 7)},
]
OTHERS = [
    {"mode": "CMYK"},
    {"turn": 6},
    {"turn": 1},
    {"icc_profile": b"a profile"},
    {"form": "MPO"},
    {"form": "PNG"},
]


@pytest.mark.parametrize("options", ORDINARY)
def test_an_ordinary_file_is_as_large_as_pillow_says(options: dict[str, object]) -> None:
    content = _file(**options)  # type: ignore[arg-type]
    with open_header(io.BytesIO(content)) as opened:
        expected = Frame(*upright_extent(opened), len(opened.getbands()))
    assert ordinary_frame(content) == ordinary_frame(content[:ENOUGH]) == expected


@pytest.mark.parametrize("options", OTHERS)
def test_all_others_are_left_to_pillow(options: dict[str, object], tmp_path: Path) -> None:
    content = _file(**options)  # type: ignore[arg-type]
    if options.get("form") == "MPO":
        content = _of_two_pictures()
    assert ordinary_frame(content) is None
    (tmp_path / "x").write_bytes(content)
    with open_header(io.BytesIO(content)) as opened:
        assert extent_of(tmp_path / "x") == upright_extent(opened)


def _of_two_pictures() -> bytes:
    file, picture = io.BytesIO(), Image.new("RGB", (40, 30))
    picture.save(file, "MPO", save_all=True, append_images=[picture])
    return file.getvalue()


def test_an_empty_file_and_a_mere_beginning_say_nothing() -> None:
    content = _file()
    scan = content.index(b"\xff\xda")
    for length in range(scan):
        assert ordinary_frame(content[:length]) is None


def test_a_damaged_header_says_what_pillow_reads_in_it() -> None:
    """Bytes of the header are overwritten, cut out or put in; where Pillow opens the file it must agree."""
    rng, agreed = random.Random(0), 0
    for _ in range(3000):
        content = bytearray(_HEADERS[rng.randrange(len(_HEADERS))])
        place = rng.randrange(2, 650)
        if rng.random() < 0.7:
            content[place] = rng.choice([0, 1, 8, 0xFF, 0xC0, 0xC3, 0xDA, 0xE1, rng.randrange(256)])
        elif rng.random() < 0.5:
            del content[place : place + rng.randrange(1, 4)]
        else:
            content[place:place] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 4)))
        found = ordinary_frame(bytes(content))
        if found is None:
            continue
        try:
            with open_header(io.BytesIO(content)) as opened:
                assert (*upright_extent(opened), len(opened.getbands())) == found
                assert (opened.format, opened.mode in ("RGB", "L")) == ("JPEG", True)
                agreed += 1
        except BROKEN:
            pass  # decoding refuses it, too
    assert agreed > 500


_HEADERS = [_file(), _file(progressive=True), _file(mode="L"), _file(turn=6), _file(mode="CMYK")]


def test_real_photographs(real_data: Path) -> None:
    files = [
        path for folder in ("coco_cc_by", "bccd_voc") for path in sorted((real_data / folder).rglob("*.jpg"))[::20]
    ]
    found = 0
    for path in files:
        with open_header(io.BytesIO(path.read_bytes())) as opened:
            assert extent_of(path) == upright_extent(opened)
        found += ordinary_frame(path.read_bytes()) is not None
    assert found > len(files) / 2
