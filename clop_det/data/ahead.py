"""One batch ahead: while a step computes, a thread reads what the next one needs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread, current_thread
from typing import Generic, TypeVar

import torch

_Result = TypeVar("_Result")
_GRACE = 20.0  # seconds that the end of the process waits for what is being read; a dead disk must not hold it for ever


class OneAhead(Generic[_Result]):
    """A call gives `read(i)`, by a thread of its own, and has another one read i + 1.

    Args:
        read: from the number of a batch to what is read of it, a pure function; what it raises is raised by the call
            for that number, and by none if it is never asked for.
        begin: called by the caller's thread, while nothing is read, before any number but the next one.
        end: numbers from here on are not read ahead.
    """

    def __init__(self, read: Callable[[int], _Result], begin: Callable[[int], None], end: int) -> None:
        self._read, self._begin, self._end = read, begin, end
        self._number = -1
        self._coming: Future[_Result] | None = None
        self._last: list[Thread] = []
        weakref.finalize(self, _join, self._last)  # also where the interpreter ends, which a thread in torch may crash

    def __call__(self, number: int) -> _Result:
        """`read(number)`; raises what that raises."""
        if self._coming is not None and number != self._number:
            wait([self._coming])
            self._coming = None
        if self._coming is None:
            self._begin(number)
            self._start(number)
        assert self._coming is not None
        result = self._coming.result()
        self._coming = None
        if number + 1 < self._end:
            self._start(number + 1)
        return result

    def _start(self, number: int) -> None:
        self._number, self._coming = number, Future()
        # A daemon: the second stop signal leaves at once, whatever is read.
        arguments = self._read, number, self._coming, torch.get_num_threads()
        self._last[:] = [Thread(target=_run, args=arguments, daemon=True)]
        self._last[0].start()


def _run(read: Callable[[int], _Result], number: int, future: Future[_Result], threads: int) -> None:
    torch.set_num_threads(threads)  # what is computed here in parts is cut as in the caller's thread
    try:
        future.set_result(read(number))
    except BaseException as error:
        future.set_exception(error)


def _join(threads: list[Thread]) -> None:
    for thread in threads:
        if thread is not current_thread():  # it may be the last that knows the object
            thread.join(_GRACE)
