"""The building of a store: killed or interrupted, it is gone on with, and damage is noticed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from clop_det.data import store_build
from clop_det.data.decoding import centre_square
from clop_det.data.layouts import ImageList, read_images
from clop_det.data.store import open_store
from tests.data.stores import decoded, write_images


@pytest.fixture
def images(tmp_path: Path) -> ImageList:
    return write_images(tmp_path / "data")


SLOW_STORE = """
import sys, time
from pathlib import Path
from clop_det.data import store_build
from clop_det.data.layouts import read_images
from clop_det.data.store import open_store
original, seen = store_build.centre_square, []

def slow(image, size):
    seen.append(image)
    if len(seen) == int(sys.argv[4]):
        Path(sys.argv[3]).write_text("under way")
        time.sleep(60)
    return original(image, size)

store_build.CHUNK = 2
store_build.centre_square = slow
open_store(read_images("folder", sys.argv[1], "train"), 16, sys.argv[2])
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and a cache with a store whose build was killed at its fifth image."""
    folder = tmp_path_factory.mktemp("killed")
    write_images(folder / "data")
    sign = folder / "sign"
    arguments = [str(folder / "data"), str(folder / "stores"), str(sign), "5"]
    process = subprocess.Popen([sys.executable, "-c", SLOW_STORE, *arguments])
    deadline = time.monotonic() + 60
    while not sign.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sign.exists()
    return folder


@pytest.mark.parametrize("damage", ["none", "pixels", "half a line", "pixels lost", "nonsense"])
def test_a_killed_build_is_gone_on_with(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    images = read_images("folder", killed / "data", "train")
    whole = open_store(images, 16, tmp_path / "whole")
    cache = tmp_path / "stores"
    shutil.copytree(killed / "stores", cache)
    assert not [path for path in cache.iterdir() if not path.name.startswith(".")]
    (partial,) = cache.glob(".*.building.partial")
    pixels, journal = partial / "images.u8", partial / "journal.jsonl"
    assert pixels.stat().st_size == 4 * 3 * 16 * 16
    kept = 4
    if damage == "pixels":  # of the second chunk
        content = bytearray(pixels.read_bytes())
        content[2 * 3 * 16 * 16 + 5] ^= 1
        pixels.write_bytes(content)
        kept = 2
    elif damage == "half a line":
        os.truncate(journal, journal.stat().st_size - 3)
        kept = 2
    elif damage == "pixels lost":
        os.truncate(pixels, 100)
        kept = 0
    elif damage == "nonsense":
        journal.write_bytes(b"\xff\n")
        kept = 0
    decoded = []
    original = centre_square
    monkeypatch.setattr(store_build, "centre_square", lambda image, size: decoded.append(1) or original(image, size))
    store = open_store(images, 16, cache)
    assert len(decoded) == 6 - kept
    assert torch.equal(store.images[:], whole.images[:])
    assert store.sources_sha256 == whole.sources_sha256
    assert [path.name for path in cache.iterdir() if ".building." in path.name] == []
    for name in ("images.u8", "store.json"):
        assert (store.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_a_build_that_is_interrupted_by_the_user_is_gone_on_with(
    images: ImageList, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_build, "CHUNK", 2)
    original, seen = centre_square, []

    def interrupted(image, size):  # type: ignore[no-untyped-def]
        seen.append(1)
        if len(seen) == 5:
            raise KeyboardInterrupt
        return original(image, size)

    monkeypatch.setattr(store_build, "centre_square", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_store(images, 16, tmp_path)
    before = len(seen)
    store = open_store(images, 16, tmp_path)
    assert len(seen) - before == 2
    assert np.array_equal(store.images[3].numpy(), decoded(images, 3, 16))
