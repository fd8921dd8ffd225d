"""One batch is read ahead: when, in which order, and what becomes of an error."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch

from clop_det.data.ahead import OneAhead

LIMIT = 20.0


def test_the_next_one_is_read_while_the_caller_works_and_none_after_the_last() -> None:
    read, begun = {number: threading.Event() for number in range(6)}, []

    def reading(number: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        read[number].set()
        return 10 * number

    ahead = OneAhead(reading, begun.append, end=4)
    for number in range(3):
        assert ahead(number) == 10 * number
        assert read[number + 1].wait(LIMIT)
        assert not read[number + 2].is_set()
    assert ahead(3) == 30
    assert begun == [0]
    assert not read[4].is_set()
    assert ahead(5) == 50  # who asks past the end is served
    assert begun == [0, 5]


def test_another_number_than_the_next_begins_anew_after_what_is_under_way() -> None:
    order: list[str] = []

    def reading(number: int) -> int:
        order.append(f"read {number}")
        return number

    ahead = OneAhead(reading, lambda number: order.append(f"begin {number}"), end=100)
    assert [ahead(0), ahead(7), ahead(7)] == [0, 7, 7]
    assert order[:6] == ["begin 0", "read 0", "read 1", "begin 7", "read 7", "read 8"]
    assert order[6:8] == ["begin 7", "read 7"]


def test_an_error_comes_with_its_own_number_alone() -> None:
    def reading(number: int) -> int:
        if number == 2:
            raise LookupError(f"no batch {number}")
        return number

    ahead = OneAhead(reading, lambda number: None, end=100)
    assert [ahead(0), ahead(1)] == [0, 1]
    assert ahead(5) == 5
    assert ahead(1) == 1
    with pytest.raises(LookupError, match="no batch 2"):
        ahead(2)


def test_the_thread_computes_with_as_many_threads_as_the_caller() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 2)
    try:
        ahead = OneAhead(lambda number: torch.get_num_threads(), lambda number: None, end=1)
        assert ahead(0) == before + 2
    finally:
        torch.set_num_threads(before)


ENDING = """
import sys, time
import clop_det
from clop_det.data import ahead

ahead._GRACE = float(sys.argv[1])

def reading(number):
    time.sleep(0 if number == 0 else 1 if ahead._GRACE > 1 else 600)
    if number:
        print("read", flush=True)

kept = ahead.OneAhead(reading, lambda number: None, 10)
kept(0)
sys.exit(75)
"""


@pytest.mark.parametrize(("grace", "said"), [(20, "read\n"), (0.1, "")])
def test_the_end_of_a_process_waits_for_what_is_read_but_not_for_ever(grace: float, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDING, str(grace)], capture_output=True, text=True, timeout=200, check=False
    )
    assert (done.returncode, done.stdout) == (75, said), done.stderr
