"""Folders appear whole or not at all, once, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clop_det.data.building import build_once, cache_folder
from clop_det.errors import UserError

# Builds sys.argv[1] slowly: a first file, a sign that it is under way, and, much later, a second file.
SLOW_BUILD = """
import sys, time
from pathlib import Path
from clop_det.data.building import build_once

def build(folder):
    (folder / "first").write_text("1")
    Path(sys.argv[2]).write_text("under way")
    time.sleep(float(sys.argv[3]))
    (folder / "second").write_text("2")

print(build_once(Path(sys.argv[1]), build))
"""


def _start(folder: Path, sign: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW_BUILD, str(folder), str(sign), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not sign.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sign.exists()
    return process


def _build(folder: Path) -> None:
    (folder / "first").write_text("1")
    (folder / "second").write_text("2")


def test_builds_once(tmp_path: Path) -> None:
    assert build_once(tmp_path / "deep" / "x", _build)
    assert not build_once(tmp_path / "deep" / "x", lambda folder: pytest.fail("built twice"))
    assert sorted(path.name for path in (tmp_path / "deep" / "x").iterdir()) == ["first", "second"]
    assert (tmp_path / "deep" / "x").stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "first").write_text("1")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        build_once(tmp_path / "x", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".x.lock"]


def test_a_killed_build_leaves_nothing_that_counts_and_the_next_cleans_up(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "x"
    process = _start(folder, tmp_path / "sign", 60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not folder.exists()
    assert list(folder.parent.glob(".x.building.*"))
    assert build_once(folder, _build)
    assert sorted(path.name for path in folder.parent.iterdir()) == [".x.lock", "x"]


def test_a_resumable_build_gets_back_what_it_left(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> None:
        (folder / "first").write_text("1")
        raise KeyboardInterrupt

    def go_on(folder: Path) -> None:
        assert (folder / "first").read_text() == "1"
        (folder / "second").write_text("2")

    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "x", interrupted, resumable=True)
    assert build_once(tmp_path / "x", go_on, resumable=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.lock", "x"]
    with pytest.raises(KeyboardInterrupt):
        build_once(tmp_path / "y", interrupted)
    assert not list(tmp_path.glob(".y.building.*"))


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    process = _start(tmp_path / "x", tmp_path / "sign", 1.0)
    assert not build_once(tmp_path / "x", lambda folder: pytest.fail("built twice"))
    assert (tmp_path / "x" / "second").exists()
    assert process.communicate()[0].strip().endswith("True")


def test_an_unwritable_place_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="CLOP_DET_CACHE"):
        build_once(tmp_path / "file" / "x", _build)

    def disk_full(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left on device"):
        build_once(tmp_path / "x", disk_full)


def test_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOP_DET_CACHE", "/somewhere/else")
    assert cache_folder() == Path("/somewhere/else")
    monkeypatch.delenv("CLOP_DET_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "clop_det"
    monkeypatch.setenv("CLOP_DET_CACHE", "~nosuchuser/cache")
    with pytest.raises(UserError, match="'~nosuchuser/cache' has no home folder; set CLOP_DET_CACHE"):
        cache_folder()
