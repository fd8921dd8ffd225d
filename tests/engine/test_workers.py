"""Processes of data loaders end with the process that started them, although they ignore stop signals."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import Dataset

from clop_det.engine.workers import batch_loader
from tests.alive import alive

KEPT: list[Any] = []


class Numbers(Dataset[int]):
    def __getitem__(self, index: int) -> int:
        return index


def leaves_an_iterator_behind(persistent: bool, fails: bool) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    iterator = iter(batch_loader(Numbers(), range(1000), 2, persistent_workers=persistent))
    assert next(iterator) == 0
    KEPT.append(iterator)
    if fails:
        raise ValueError("on purpose")


@pytest.mark.parametrize(("persistent", "fails"), [(True, False), (False, True)])
def test_a_process_ends_although_its_workers_are_deaf_and_referred_to(persistent: bool, fails: bool) -> None:
    process = multiprocessing.get_context("spawn").Process(target=leaves_an_iterator_behind, args=(persistent, fails))
    process.start()
    process.join(60)
    try:
        assert process.exitcode == (1 if fails else 0)
    finally:
        process.kill()


def loads_until_it_is_killed(method: str, told: Connection) -> None:
    multiprocessing.set_start_method(method, force=True)
    iterator = iter(batch_loader(Numbers(), range(10**6), 2))
    next(iterator)
    told.send([worker.pid for worker in iterator._workers])  # type: ignore[attr-defined]
    time.sleep(600)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_leave_when_the_process_that_loads_is_killed(method: str) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=loads_until_it_is_killed, args=(method, theirs))
    process.start()
    workers = ours.recv()
    process.kill()
    process.join(60)
    deadline = time.monotonic() + 60
    try:
        while any(alive(worker) for worker in workers):
            assert time.monotonic() < deadline, "a worker outlives its loader"
            time.sleep(0.05)
    finally:
        for worker in filter(alive, workers):
            os.kill(worker, signal.SIGKILL)
