"""Processes and what they started: leaving with one's parent, ending a whole tree."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections import defaultdict
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def stop_with_parent() -> None:
    """Linux: this process gets SIGTERM when the thread that started it ends, so that it saves and leaves.

    Only for a process whose parent starts it from a thread that lives as long as itself.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def kill_tree(pid: int) -> None:
    """SIGKILL to a process and to all that it started, those with a session of their own (torchrun's workers) too.

    Elsewhere than on Linux: to its process group.
    """
    if not Path("/proc/self/stat").exists():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        return
    for doomed in (pid, *descendants(pid)):  # the parent first: it must not start its children anew
        with contextlib.suppress(ProcessLookupError):
            os.kill(doomed, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Ids of the processes that `pid` started, and theirs, parents first (Linux)."""
    children = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            continue  # it has ended meanwhile
        parent = int(text.rpartition(")")[2].split()[1])  # the name, in brackets, may hold anything
        children[parent].append(int(stat.parent.name))
    found = list(children[pid])
    for process in found:
        found += children[process]
    return found
