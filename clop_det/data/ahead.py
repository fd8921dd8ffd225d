"""One batch ahead: while a step computes, a thread reads what the next one needs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

import torch

_Result = TypeVar("_Result")


class OneAhead(Generic[_Result]):
    """A call gives `read(i)`, by a thread of its own, which then reads i + 1.

    Args:
        read: from the number of a batch to what is read of it, a pure function; what it raises is raised by the call
            for that number, and by none if it is never asked for.
        begin: called by the caller's thread, while nothing is read, before any number but the next one.
        end: numbers from here on are not read ahead.
    """

    def __init__(self, read: Callable[[int], _Result], begin: Callable[[int], None], end: int) -> None:
        self._read, self._begin, self._end = read, begin, end
        # As many threads within torch as here. It starts with the first number, when a process has forked its workers.
        self._thread = ThreadPoolExecutor(1, "batches", torch.set_num_threads, (torch.get_num_threads(),))
        self._number = -1
        self._coming: Future[_Result] | None = None

    def __call__(self, number: int) -> _Result:
        """`read(number)`; raises what that raises."""
        coming = self._coming
        if coming is None or number != self._number:
            if coming is not None:
                wait([coming])
            self._begin(number)
            coming = self._thread.submit(self._read, number)
        self._number, self._coming = number, coming
        result = coming.result()
        self._number, self._coming = number + 1, None
        if number + 1 < self._end:
            self._coming = self._thread.submit(self._read, number + 1)
        return result
