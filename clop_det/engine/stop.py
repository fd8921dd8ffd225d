"""SIGTERM and SIGINT finish the step, save, and leave with a code of their own."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from detectron2.engine import HookBase
from detectron2.utils import comm

from clop_det.engine.leaving import StopRequested

# Ranks ask each other every so many steps, and more often where as many take longer than so many seconds.
_ASK_STEPS, _ASK_SECONDS = 10, 1.0
_SAME_REQUEST = 2.0  # seconds within which a signal that comes twice (terminal and launcher) is one request


class StopSignal(HookBase):
    """Turns the first stop signal into a saved checkpoint and `StopRequested`; the second ends the process at once.

    Checked between steps here; loops that run for long inside one step (evaluation) call `check` themselves, and who
    runs them calls `save_and_leave`. The signals are caught within `caught`, which must enclose the training.
    Loader workers ignore the signals (`engine.workers`); other processes that inherit the handler are let alone by it.
    """

    def __init__(self, save: Callable[[], None]) -> None:
        self._save = save
        self._owner = os.getpid()
        self._signal: int | None = None
        self._asked_at = 0.0
        self._question = 0, 0.0  # iteration and time of the ranks' last question
        self._next_question = 0

    def requested(self) -> bool:
        """Whether a stop signal has arrived in this process."""
        return self._signal is not None

    def check(self) -> None:
        """Raise StopRequested if a stop signal has arrived in this process."""
        if self.requested():
            raise StopRequested

    def check_together(self) -> None:
        """Raise StopRequested on every rank if a stop signal has arrived in any; a round trip between the ranks."""
        with left_together():
            self.check()

    def save_and_leave(self) -> NoReturn:
        """Save, wait for the other ranks, and raise StopRequested."""
        self._save()
        comm.synchronize()  # a rank that leaves early may have the others ended while the first one saves
        raise StopRequested

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Within, the stop signals are requests to this object."""
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def before_train(self) -> None:
        self._question = self.trainer.iter - 1, time.monotonic()

    def after_step(self) -> None:
        if self._any_requested():
            self.save_and_leave()

    def _any_requested(self) -> bool:
        """Whether any rank has been asked to stop; False between two questions.

        All ranks must leave at the same step, or the others wait in a collective for ever. A question costs a round
        trip, and a launcher that has asked them to stop kills them after a while.
        """
        if comm.get_world_size() == 1:
            return self.requested()
        iteration, now = self.trainer.iter, time.monotonic()
        if iteration < self._next_question:
            return False
        seconds = (now - self._question[1]) / (iteration - self._question[0])
        answers = comm.all_gather((self.requested(), seconds))
        self._question = iteration, now
        slowest = max(seconds for _, seconds in answers)
        self._next_question = iteration + max(1, min(_ASK_STEPS, int(_ASK_SECONDS / max(slowest, 1e-3))))
        return any(requested for requested, _ in answers)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return
        now = time.monotonic()
        if self.requested():
            if now - self._asked_at < _SAME_REQUEST:
                return
            raise KeyboardInterrupt
        self._signal, self._asked_at = number, now
        name = signal.Signals(number).name
        logging.getLogger(__name__).warning("%s: finishing the step, saving, leaving (again: leave at once)", name)


@contextmanager
def left_together() -> Iterator[None]:
    """All ranks meet at the end of the block, and leave by StopRequested if one of them does.

    There must be no collective in the block that some ranks then would miss.
    """
    stopped = False
    try:
        yield
    except StopRequested:
        stopped = True
    if any(comm.all_gather(stopped)):
        raise StopRequested
