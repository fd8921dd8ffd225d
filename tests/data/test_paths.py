"""Data roots: plain paths and addresses."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from clop_det.data import digits_path
from clop_det.data.digits_path import digits_folder, parse_address
from clop_det.data.paths import local_path
from clop_det.errors import UserError


def test_plain_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert local_path(tmp_path / "data") == tmp_path / "data"
    assert local_path("~/data") == tmp_path / "data"
    assert local_path("data") == Path("data")


def test_missing_or_empty_roots_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'nowhere' does not exist"):
        local_path("nowhere")
    for root in ("~nosuchuser/x", "x" * 300, "a\0b"):
        with pytest.raises(
            UserError, match=r"data root '.*' does not exist or cannot be reached \(looked for /.*correct the path"
        ):
            local_path(root)
    with pytest.raises(UserError, match="data root is empty"):
        local_path("")
    with pytest.raises(UserError, match=r"unknown scheme 's3'; known: digits://"):
        local_path("s3://bucket/x")


def test_addresses_are_generated_once_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CLOP_DET_CACHE", str(tmp_path))
    address = "digits://cluttered?train=10&val=10&size=16"
    with caplog.at_level(logging.INFO):
        first = local_path(address)
        times = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
        # Path() drops a slash; the order of the parameters and those left at their default do not matter.
        assert local_path(Path(address)) == first
        assert local_path("digits://cluttered?size=16&val=10&train=10&seed=0") == first
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == times
    assert first.is_relative_to(tmp_path)
    messages = [record.getMessage() for record in caplog.records if "digits" in record.name]
    assert len(messages) == 1
    assert "train=10&val=10&size=16&seed=0" in messages[0]


def test_other_parameters_or_another_version_are_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOP_DET_CACHE", str(tmp_path))
    folders = {digits_folder(f"cluttered?train=10&val=10&size=16&seed={seed}") for seed in (0, 1)}
    monkeypatch.setattr(digits_path, "GENERATOR_VERSION", -1)
    folders.add(digits_folder("cluttered?train=10&val=10&size=16&seed=0"))
    assert len(folders) == 3


def test_defaults_are_the_documented_ones() -> None:
    assert parse_address("cluttered") == ("cluttered", {"train": 2600, "val": 1000, "size": 32, "seed": 0})
    assert parse_address("scenes?seed=3") == (
        "scenes",
        {"train": 600, "val": 100, "test": 200, "size": 128, "seed": 3},
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("letters", r"unknown digits://letters; known: digits://cluttered, digits://scenes"),
        ("cluttered?colour=red", r"unknown parameter 'colour'; known: train, val, size, seed"),
        ("cluttered?test=5", "unknown parameter 'test'"),
        ("cluttered?size=abc", "size is 'abc'; it must be a whole number from 16 to 512"),
        ("cluttered?size=8", "size is '8'"),
        ("cluttered?train=-5", "train is '-5'"),
        ("cluttered?train=", "train is ''"),
        ("cluttered?train", "write it as digits://cluttered"),
        ("scenes?size=1.5", "size is '1.5'"),
        ("scenes?size=²", "size is '²'"),
    ],
)
def test_malformed_addresses_are_refused(address: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        digits_folder(address)
