"""A tool's standard output may be closed, full or narrow: the tool does its work and leaves with its own code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = """
import sys, time
from clop_det.engine.streams import keep_streams

keep_streams()
print("first", flush=True)
time.sleep(0.3)  # until the reader has gone
for _ in range(3):
    print("\\u250c\\u2500 a table \\u2013 with frames", flush=True)
print("left in the buffer")
open(sys.argv[1], "w").write("done")
sys.exit(3)
"""


def ended(command: str, tmp_path: Path, **variables: str) -> tuple[int, str, str]:
    (tmp_path / "tool.py").write_text(TOOL)
    line = f"{sys.executable} -W ignore {tmp_path}/tool.py {tmp_path}/done {command}"
    done = subprocess.run(["bash", "-c", line], env={**os.environ, **variables}, capture_output=True, check=False)
    assert (tmp_path / "done").read_text() == "done", done.stderr.decode()
    return done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode()


@pytest.mark.parametrize(
    "command",
    ["| head -1; exit ${PIPESTATUS[0]}", ">&-", ">&- 2>&-", "> /dev/full", "2>&1 | true; exit ${PIPESTATUS[0]}"],
)
def test_without_a_reader(command: str, tmp_path: Path) -> None:
    code, _, errors = ended(command, tmp_path)
    assert code == 3
    assert "Traceback" not in errors
    assert "Error" not in errors


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_in_a_narrow_alphabet(encoding: str, tmp_path: Path) -> None:
    code, output, errors = ended("", tmp_path, PYTHONIOENCODING=encoding)
    assert (code, errors) == (3, "")
    assert "?? a table ? with frames" in output
