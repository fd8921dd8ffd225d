"""Processes of tests: forked from a server that has imported the package, so that they start in a fraction of a second.

To start Python and to import torch and Detectron2 anew takes seconds, which is longer than most of them work.
"""

from __future__ import annotations

import datetime
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from detectron2.utils import comm
from torch import distributed

CONTEXT = multiprocessing.get_context("forkserver")
# A command imports what it runs only when it runs it, so these modules are named themselves.
CONTEXT.set_forkserver_preload(
    ["pytest", "clop_det.pretraining.run", "clop_det.detection.run", "clop_det.commands.compare"]
)

_LIMIT = datetime.timedelta(seconds=60)


def run_all(target: Callable[..., None], arguments: list[tuple[Any, ...]], seconds: float = 600) -> list[int | None]:
    """Run `target` once per tuple of arguments, all at the same time; the exit codes. TimeoutError if one hangs."""
    processes = [CONTEXT.Process(target=target, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
        if process.is_alive():
            process.kill()
            raise TimeoutError(f"a process was still running after {seconds:g} s")
    return [process.exitcode for process in processes]


def on_ranks(
    work: Callable[[int, int], dict[str, Any]], folder: Path, sizes: Sequence[int]
) -> dict[tuple[int, int], dict[str, Any]]:
    """What `work(rank, world size)` gives, by (world size, rank), in gloo groups of these sizes, one after the other.

    One set of processes serves all groups. A collective has a limit, so that a rank that waits for another one fails
    instead of hanging; it counts from when all are there, for starting up on a busy machine is no hanging collective.
    """
    together = CONTEXT.Barrier(max(sizes))
    codes = run_all(_rank, [(rank, work, folder, sizes, together) for rank in range(max(sizes))])
    assert codes == [0] * max(sizes)
    return {
        (size, rank): torch.load(folder / f"{size}_{rank}.pt", weights_only=True)
        for size in sizes
        for rank in range(size)
    }


def _rank(
    rank: int, work: Callable[[int, int], dict[str, Any]], folder: Path, sizes: Sequence[int], together: Barrier
) -> None:
    torch.set_num_threads(1)
    for size in sizes:
        together.wait(240)
        if rank < size:
            store = f"file://{folder}/store_{size}"
            distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=size, timeout=_LIMIT)
            comm.create_local_process_group(size)
            torch.save(work(rank, size), folder / f"{size}_{rank}.pt")
            distributed.destroy_process_group()
            comm._LOCAL_PROCESS_GROUP = None


def start_python(words: Sequence[object], said: Path, folder: Path | None = None, **variables: str) -> BaseProcess:
    """A process that does what `python WORDS` would do in `folder` with these environment variables beside ours.

    `words`: a script, or -m and a module, or -c and code; then the arguments. It writes to files in the folder `said`.
    """
    environment = {**os.environ, **variables}
    process = CONTEXT.Process(target=_python, args=([*map(str, words)], said, folder or Path.cwd(), environment))
    process.start()
    return process


def run_python(
    words: Sequence[object], folder: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """What `start_python` starts, when it has ended."""
    with tempfile.TemporaryDirectory() as name:
        process = start_python(words, Path(name), folder, **variables)
        process.join()
        out, errors = (Path(name, stream).read_text() for stream in ("stdout", "stderr"))
    assert process.exitcode is not None
    return subprocess.CompletedProcess([*map(str, words)], process.exitcode, out, errors)


def _python(words: list[str], said: Path, folder: Path, environment: dict[str, str]) -> None:
    for stream in (sys.stdout, sys.stderr):
        os.dup2(os.open(said / stream.name.strip("<>"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    kind, *rest = words
    first = "" if kind in ("-m", "-c") else str(Path(kind).parent)
    sys.path[:0] = [first, *environment.get("PYTHONPATH", "").split(os.pathsep)]
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], {"__name__": "__main__"})
    else:
        sys.argv = words
        runpy.run_path(kind, run_name="__main__")
