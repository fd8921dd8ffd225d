"""The faster decoder: Pillow's pixels to the byte and Pillow's refusals, or it is not used."""

from __future__ import annotations

import io
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clop_det.data import turbo
from clop_det.data.crops import reduced
from clop_det.data.decoding import Pixels, UnreadableImage, open_header

simplejpeg = pytest.importorskip("simplejpeg", reason="needs simplejpeg: pip install 'clop_det[turbo]'")


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    turbo.is_used.cache_clear()
    yield
    turbo.is_used.cache_clear()


def _file(seed: int = 0, mode: str = "RGB", **options: object) -> bytes:
    rng, file = np.random.default_rng(seed), io.BytesIO()
    spots = Image.fromarray(rng.integers(0, 256, (29, 37, 3), dtype=np.uint8)).resize((203, 149))
    noise = Image.fromarray(rng.integers(0, 256, (149, 203, 3), dtype=np.uint8))
    Image.blend(spots, noise, 0.2).convert(mode).save(file, "JPEG", **options)  # type: ignore[arg-type]
    return file.getvalue()


def _of_both(content: bytes, factor: int) -> tuple[Pixels | None, Pixels]:
    with open_header(io.BytesIO(content)) as opened:
        found = turbo.pixels(content, opened.size, factor) if opened.mode in ("RGB", "L") else None
        opened.draft(None, (opened.width // factor, opened.height // factor))
        return found, np.asarray(opened.convert("RGB"))


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
@pytest.mark.parametrize(
    "options",
    [
        *({"subsampling": name} for name in ("4:4:4", "4:2:2", "4:2:0")),
        *({"quality": quality, "progressive": quality == 30} for quality in (30, 98)),
        {"optimize": True, "restart_marker_blocks": 4},
        {"keep_rgb": True},
        {"mode": "L"},
    ],
)
def test_pixels_are_pillows(options: dict[str, object], factor: int) -> None:
    found, expected = _of_both(_file(**options), factor)  # type: ignore[arg-type]
    assert found is not None
    assert np.array_equal(found, expected)


def test_real_photographs_are_pillows(real_data: Path) -> None:
    files = [
        path for folder in ("coco_cc_by", "bccd_voc", "aquarium_det") for path in (real_data / folder).rglob("*.jpg")
    ]
    for path in sorted(files)[::80]:
        for factor in (1, 2, 8):
            found, expected = _of_both(path.read_bytes(), factor)
            assert np.array_equal(found, expected), path  # type: ignore[arg-type]


def test_what_it_does_not_read_is_left_to_pillow() -> None:
    assert _of_both(_file(mode="CMYK"), 2)[0] is None
    assert np.array_equal(
        reduced(_file(mode="CMYK"), "x", lambda w, h: 2).pixels.numpy(), _of_both(_file(mode="CMYK"), 2)[1][:74, :101]
    )


def test_damaged_files_are_judged_by_pillow_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are cut off, overwritten or put in, most in the header: the same pixels or the same error both ways."""
    whole, damaged, rng = _file(quality=60), [], np.random.default_rng(1)
    for place in rng.integers(2, 650, 300).tolist():
        byte = bytes([rng.choice([0, 1, 8, 0xC0, 0xC4, 0xDA, 0xE1, 0xFF, rng.integers(256)])])
        damaged.append(whole[:place] + byte + whole[place + int(rng.integers(3)) :])
    for place in np.linspace(2, len(whole) - 3, 30).astype(int).tolist():
        damaged += [whole[:place], whole[:place] + b"\0\xff\xd9\0\x99" + whole[place + 5 :]]
    with_it = [_outcome(content) for content in damaged]
    monkeypatch.setattr(turbo, "simplejpeg", None)
    turbo.is_used.cache_clear()
    assert not turbo.is_used()
    assert [_outcome(content) for content in damaged] == with_it
    assert {type(outcome) for outcome in with_it} == {bytes, str}  # some are read, some are refused


def _outcome(content: bytes) -> bytes | str:
    try:
        return reduced(content, "x", lambda w, h: 2).pixels.numpy().tobytes()
    except UnreadableImage as error:
        return str(error).split(" (")[0].split(" at 0x")[0]


def test_a_decoder_of_other_pixels_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert turbo.is_used()

    def other(content: bytes, *arguments: object, buffer: Pixels, **options: object) -> Pixels:
        found: Pixels = simplejpeg.decode_jpeg(content, *arguments, buffer=buffer, **options)
        found[0, 0, 0] ^= 1
        return found

    monkeypatch.setattr(turbo, "simplejpeg", types.SimpleNamespace(decode_jpeg=other))
    turbo.is_used.cache_clear()
    assert not turbo.is_used()
    assert _of_both(_file(), 1)[0] is None


def test_a_file_that_hides_another_size_gets_no_more_memory() -> None:
    content = bytearray(_file())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = b"\x00\x10\x00\x10"  # 16 x 16 pixels for Pillow's reading of the header
    assert turbo.pixels(bytes(content), (203, 149), 1) is None
