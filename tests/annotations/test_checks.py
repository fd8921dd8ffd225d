"""Policies, the collector of findings, and what the headers of real files say."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clop_det.annotations.checks import KINDS, Checks, ImageFacts, Policies, facts_of, image_facts, read_facts
from clop_det.config.reading import read_config
from clop_det.errors import UserError
from clop_det.keys import DETECTION, check_rules


def test_every_kind_has_its_default_and_repairs_only_what_can_be() -> None:
    policies = Policies.of({})
    for name, kind in KINDS.items():
        assert policies[name] == kind.default
        assert kind.default in kind.policies
        assert ("repair" in kind.policies) == bool(kind.repair)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.repair])
def test_what_cannot_be_repaired_says_so(name: str) -> None:
    cfg = read_config("", ["SEED", "0", f"DATASETS.CHECKS.{name.upper()}", "repair"])
    with pytest.raises(UserError, match=rf"DATASETS\.CHECKS\.{name.upper()} is 'repair'.*drop, .*nothing to repair"):
        check_rules(cfg, DETECTION)
    assert Policies.of({name.upper(): "drop"})[name] == "drop"


def test_unknown_kinds_are_named() -> None:
    with pytest.raises(UserError, match="did you mean DOCTYPE"):
        Policies.of({"DOCTYP": "fail"})


def test_failures_are_collected_and_named_together() -> None:
    checks = Checks("fish", Policies.of({"GREY_IMAGE": "fail"}))
    assert not checks.found("truncated_image", "a.jpg is truncated")
    assert not checks.found("truncated_image", "b.jpg is truncated")
    assert not checks.found("grey_image", "c.jpg is of mode L")
    with pytest.raises(UserError) as error:
        checks.finish()
    assert str(error.value) == (
        "data set fish: a.jpg is truncated (and 1 more of this kind). Correct it, or set"
        " DATASETS.CHECKS.TRUNCATED_IMAGE to drop. Refused as well: 1 grey_image."
    )


def test_the_table_and_the_record_say_what_was_done() -> None:
    checks = Checks("fish", Policies.of({"GREY_IMAGE": "drop"}), images=3, annotations=7)
    assert checks.table() == "annotation checks of fish: 3 images, 7 annotations, nothing found"
    assert not checks.found("grey_image", "c.jpg is of mode L")
    assert not checks.found("degenerate_box", "d.jpg, box [1, 1, 1, 4] has no width or no height")
    assert checks.found("palette_image", "e.png is of mode P")
    checks.finish()
    assert (checks.dropped("image"), checks.dropped("annotation")) == (1, 1)
    table = checks.table()
    for text in ("left out: 1 images, 1 annotations", "grey_image", "dropped", "repaired: converted to RGB", "c.jpg"):
        assert text in table
    record = checks.as_dict()["findings"]
    assert record["grey_image"]["items"] == ["c.jpg is of mode L"]
    assert {kind: entry["policy"] for kind, entry in record.items()} == {
        "palette_image": "repair",
        "grey_image": "drop",
        "degenerate_box": "drop",
    }


def pixels(height: int = 8, width: int = 12) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "mode", "expected"),
    [
        ("a.png", "RGB", ImageFacts(12, 8, "PNG", "RGB")),
        ("a.jpg", "RGB", ImageFacts(12, 8, "JPEG", "RGB")),
        ("a.png", "P", ImageFacts(12, 8, "PNG", "P")),
        ("a.png", "RGBA", ImageFacts(12, 8, "PNG", "RGBA")),
        ("a.jpg", "L", ImageFacts(12, 8, "JPEG", "L")),
        ("a.jpg", "CMYK", ImageFacts(12, 8, "JPEG", "CMYK")),
        ("a.bmp", "RGB", ImageFacts(12, 8, "BMP", "RGB")),
        ("a.webp", "RGB", ImageFacts(12, 8, "WEBP", "RGB")),
    ],
)
def test_headers(tmp_path: Path, name: str, mode: str, expected: ImageFacts) -> None:
    Image.fromarray(pixels()).convert(mode).save(tmp_path / name)
    assert read_facts(tmp_path / name) == expected


def test_deep_images_grey_and_coloured(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 12), 40000, np.uint16)).save(tmp_path / "grey.png")
    assert read_facts(tmp_path / "grey.png").deep
    # Pillow cannot write 16 bits a colour: a PNG of one black pixel, chunk by chunk.
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(7))),
        (b"IEND", b""),
    ]
    data = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    (tmp_path / "colour.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    facts = read_facts(tmp_path / "colour.png")
    assert (facts.mode, facts.deep, facts.fault) == ("RGB", True, "")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_exif(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels()).save(tmp_path / f"a.{suffix}", exif=exif)
    facts = read_facts(tmp_path / f"a.{suffix}")
    assert facts.orientation == orientation
    assert (facts.width, facts.height) == (12, 8)
    assert facts.upright_size == ((8, 12) if orientation == 6 else (12, 8))


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "gif"])
@pytest.mark.parametrize("share", [0.6, 0.95])
def test_truncated_files(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(pixels(64, 64)).save(path)
    assert read_facts(path).fault == ""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert read_facts(path).fault in ("truncated", "unreadable")
    if suffix in ("jpg", "png"):
        assert read_facts(path).fault == "truncated"


@pytest.mark.parametrize("padding", [b"\x00" * 100, b"\r\n", b"appended by a camera"])
def test_bytes_after_the_end_are_no_fault(tmp_path: Path, padding: bytes) -> None:
    for suffix in ("jpg", "png"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(pixels(64, 64)).save(path)
        path.write_bytes(path.read_bytes() + padding)
        assert read_facts(path).fault == ""


@pytest.mark.parametrize("content", [b"", b"not an image", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\x00"])
def test_no_images(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    assert read_facts(tmp_path / "a.jpg").fault == "unreadable"
    assert read_facts(tmp_path / "b.jpg").fault == "missing"


def test_facts_are_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOP_DET_CACHE", str(tmp_path / "cache"))
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths[:2]:
        Image.fromarray(pixels()).save(path)
    first = facts_of(paths)
    assert [entry.fault for entry in first] == ["", "", "missing"]

    def refuse(path: Path) -> ImageFacts:
        raise AssertionError(f"{path} must not be opened again")

    with monkeypatch.context() as patch:
        patch.setattr(image_facts, "read_facts", refuse)
        assert facts_of(paths) == first
    Image.fromarray(pixels(20, 20)).save(paths[0])
    assert facts_of(paths)[0].height == 20
    (kept,) = [p for p in (tmp_path / "cache" / "image_facts").iterdir() if facts_of(paths) and "20" in p.read_text()]
    kept.write_text("{")
    assert facts_of(paths)[0].height == 20


def test_filters_of_warnings_are_set_around_the_threads_not_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOP_DET_CACHE", str(tmp_path / "cache"))
    paths = [tmp_path / f"{i}.png" for i in range(8)]
    for path in paths:
        Image.fromarray(pixels()).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)  # 96 pixels: Pillow warns
    threads, original = set(), warnings.catch_warnings

    def noting() -> warnings.catch_warnings[None]:
        threads.add(threading.current_thread())
        return original()

    monkeypatch.setattr(warnings, "catch_warnings", noting)
    with original(record=True) as seen:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        assert {entry.width for entry in facts_of(paths)} == {12}
        assert warnings.filters == before
    assert threads == {threading.main_thread()}
    assert not seen


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setenv("CLOP_DET_CACHE", str(tmp_path / "cache"))
    Image.fromarray(pixels()).save(tmp_path / "a.png")
    assert facts_of([tmp_path / "a.png"])[0].format == "PNG"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"comment": b"x" * 5000},
        {"icc_profile": b"p" * 3000},
        {"quality": 5},
        {"exif": b"Exif\0\0"},
    ],
)
def test_the_short_way_through_a_jpeg_says_what_pillow_says(tmp_path: Path, mode: str, options: dict[str, Any]) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(pixels(30, 50)).convert(mode).save(path, **options)
    whole = path.read_bytes()
    for content in (
        whole,
        whole[:-2],
        whole[: len(whole) // 2],
        whole[:300],
        whole + b"\0\0",
        b"\0" + whole,
        whole[:20],
    ):
        path.write_bytes(content)
        with open(path, "rb") as file:
            plain = image_facts.plain_jpeg(file.fileno())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(image_facts, "plain_jpeg", lambda file: None)
            assert plain is None or plain == read_facts(path)
    path.write_bytes(whole)
    with open(path, "rb") as file:
        simple = mode != "CMYK" and not set(options) & {"exif", "icc_profile", "comment"}
        assert (image_facts.plain_jpeg(file.fileno()) is not None) == simple
