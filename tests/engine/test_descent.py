"""Ending a process together with what it started, whatever sessions those are in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clop_det.engine.descent import descendants, kill_tree
from tests.alive import alive

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

CHILD = "import sys, time; open(sys.argv[1], 'w').close(); time.sleep(600)"
PARENT = """
import subprocess, sys, time
for name in sys.argv[2:]:
    subprocess.Popen([sys.executable, "-c", sys.argv[1], name], start_new_session=True)
time.sleep(600)
"""


def test_children_in_sessions_of_their_own_are_ended_too(tmp_path: Path) -> None:
    marks = [tmp_path / "a", tmp_path / "b"]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, *map(str, marks)], start_new_session=True)
    try:
        while not all(mark.exists() for mark in marks):
            time.sleep(0.02)
        children = descendants(parent.pid)
        assert len(children) == 2
        assert all(os.getpgid(child) != parent.pid for child in children)
    finally:
        kill_tree(parent.pid)
    assert parent.wait(60) == -9
    deadline = time.monotonic() + 60
    while any(alive(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill_tree(parent.pid)  # what has ended is no error
