"""Jobs that are forked from a process which has imported the frameworks are as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from clop_det.comparison.running.launchers import FolderBusy, LocalProcess
from clop_det.comparison.running.warm import WarmStart
from tests.comparison.workplace import wait_for

CONVERT = (sys.executable, "-m", "clop_det.commands.convert_job")
# What a job imports for a user can say where it runs, and wait.
TELLING = """
import json, os, pathlib, signal, sys, time
state = {"argv": sys.argv[1:], "folder": os.getcwd(), "session": os.getsid(0) == os.getpid(), "parent": os.getppid()}
state["variables"] = {key: os.environ.get(key) for key in ("A_NAME", "B_NAME")}
heavy = ("torch", "detectron2", "sklearn", "scipy", "timm", "pandas")
state["imported"] = [name for name in heavy if name in sys.modules]
pathlib.Path(os.environ["TELLS"]).write_text(json.dumps(state))
print("here")
signal.signal(signal.SIGTERM, lambda *_: os._exit(75))
time.sleep(float(os.environ["SECONDS"]))
"""


@pytest.fixture(scope="module")
def warm() -> WarmStart:
    return WarmStart({**os.environ, "A_NAME": "of the start"})


def telling(folder: Path, warm: WarmStart, seconds: float) -> LocalProcess:
    (folder / "telling.py").write_text(TELLING)
    words = (*CONVERT, str(folder / "no.pth"), str(folder / "out.pth"), "--imports", str(folder / "telling.py"))
    variables = {**os.environ, "B_NAME": "of the job", "TELLS": str(folder / "told.json"), "SECONDS": str(seconds)}
    return LocalProcess(words, folder, variables, warm=warm)


def told(folder: Path) -> dict:
    wait_for(lambda: (folder / "told.json").exists() and (folder / "told.json").read_text().endswith("}"))
    return json.loads((folder / "told.json").read_text())


def ended(process: LocalProcess) -> int | None:
    wait_for(lambda: process.poll() is not None)
    return process.poll()


def test_a_job_has_its_own_words_folder_session_and_variables(warm: WarmStart, tmp_path: Path) -> None:
    assert ended(telling(tmp_path, warm, seconds=0.0)) == 2
    state = told(tmp_path)
    assert state["argv"][:2] == [str(tmp_path / "no.pth"), str(tmp_path / "out.pth")]
    assert (state["folder"], state["session"]) == (os.getcwd(), True)
    assert state["imported"] == ["torch", "detectron2"]  # what only some jobs need is imported when it is needed
    assert state["variables"] == {"A_NAME": os.environ.get("A_NAME"), "B_NAME": "of the job"}
    first, *_, last = (tmp_path / "job.log").read_text().strip().splitlines()
    assert first.startswith("--- ")
    assert last.startswith("error: ")
    assert "no.pth" in last
    assert "here\n" in (tmp_path / "job.log").read_text()


def test_a_job_holds_its_folder_and_ends_when_it_is_told_to(warm: WarmStart, tmp_path: Path) -> None:
    running = telling(tmp_path, warm, seconds=60.0)
    told(tmp_path)
    assert running.poll() is None
    with pytest.raises(FolderBusy):
        telling(tmp_path, warm, seconds=0.0)
    running.stop(at_once=False)
    assert ended(running) == 75
    assert ended(telling(tmp_path, warm, seconds=0.0)) == 2  # the folder is free


def test_a_job_is_killed_at_once(warm: WarmStart, tmp_path: Path) -> None:
    running = telling(tmp_path, warm, seconds=60.0)
    told(tmp_path)
    running.stop(at_once=True)
    assert ended(running) == -signal.SIGKILL


def test_the_death_of_what_forks_ends_its_jobs_and_the_next_one_starts_anew(warm: WarmStart, tmp_path: Path) -> None:
    running = telling(tmp_path, warm, seconds=60.0)
    forks = told(tmp_path)["parent"]
    os.kill(forks, signal.SIGKILL)
    assert ended(running) == -signal.SIGTERM
    (tmp_path / "told.json").unlink()
    assert ended(telling(tmp_path, warm, seconds=0.0)) == 2
    assert told(tmp_path)["parent"] != forks
