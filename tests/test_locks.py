from __future__ import annotations

import errno
import fcntl
import multiprocessing
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NoReturn

import pytest

from clop_det.errors import UserError
from clop_det.locks import exclusive_lock


def _hold(path: Path, held: Event) -> None:
    with exclusive_lock(path, ""):
        held.set()
        time.sleep(600)


@pytest.fixture
def holder(tmp_path: Path) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=_hold, args=(tmp_path / "lock", held), daemon=True)
    process.start()
    assert held.wait(60)
    return process


def test_a_held_lock_is_refused_and_a_killed_holder_releases_it(
    tmp_path: Path, holder: multiprocessing.process.BaseProcess
) -> None:
    with pytest.raises(UserError, match="in use"), exclusive_lock(tmp_path / "lock", "", "in use"):
        pass
    threading.Timer(0.5, holder.kill).start()
    with exclusive_lock(tmp_path / "lock", "", "in use", patience=60.0):
        pass


def test_without_a_message_it_waits(tmp_path: Path, holder: multiprocessing.process.BaseProcess) -> None:
    threading.Timer(0.5, holder.kill).start()
    with exclusive_lock(tmp_path / "lock", ""):
        holder.join(60)
        assert not holder.is_alive()


def test_it_is_released_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), exclusive_lock(tmp_path / "lock", "", "in use"):
        raise RuntimeError
    with exclusive_lock(tmp_path / "lock", "", "in use"):
        pass


def test_a_place_that_cannot_be_written_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lock = exclusive_lock(tmp_path / "file" / "lock", "Choose another.")
    with pytest.raises(UserError, match=r"cannot write in .*file.*Choose another\."), lock:
        pass


def test_a_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unsupported(descriptor: int, operation: int) -> NoReturn:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with exclusive_lock(tmp_path / "lock", "", "in use"):
        assert "cannot be locked (No locks available)" in caplog.text
