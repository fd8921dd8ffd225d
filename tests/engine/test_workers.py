"""Processes of data loaders end with the process that started them, although they ignore stop signals."""

from __future__ import annotations

import multiprocessing
import signal
from typing import Any

import pytest
from torch.utils.data import Dataset

from clop_det.engine.workers import batch_loader

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
