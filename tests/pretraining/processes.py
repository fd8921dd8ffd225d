"""Processes of tests: forked from one that has imported everything, so that they start in a fraction of a second."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["clop_det.commands.pretrain"])


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
