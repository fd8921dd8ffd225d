from __future__ import annotations

import multiprocessing
import resource
import sys
from multiprocessing.connection import Connection

import pytest
import torch

from clop_det.engine.allocator import keep_freed_memory


def faults_of_allocations(keep: bool, answer: Connection) -> None:
    """Page faults of ten tensors of 64 MB, each freed before the next, after twenty that let the heap grow."""
    obeyed = keep_freed_memory() if keep else True
    before = 0
    for turn in range(30):
        torch.ones(16 * 2**20)
        if turn == 19:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    answer.send((obeyed, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the setting is the GNU C library's")
def test_what_was_freed_is_used_again_without_page_faults() -> None:
    context = multiprocessing.get_context("spawn")
    found = []
    for keep in (False, True):
        ours, theirs = context.Pipe()
        process = context.Process(target=faults_of_allocations, args=(keep, theirs))
        process.start()
        found.append(ours.recv())
        process.join()
    (_, default), (obeyed, kept) = found
    assert obeyed
    assert kept < default / 10


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
