"""Notices a rank that stands still, which otherwise holds all the others in a collective for half an hour.

Every rank posts its state to the group's store every few seconds, from a thread. The first and the last rank look at
all states. A rank whose posts stop stands (stopped, swapped out, its machine gone); so does one that posts, but whose
step does not go on: a disk that does not answer. What lies between two steps (probes, evaluation, checkpoints) has no
limit, and neither has a process's first step.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import distributed

from clop_det.engine.leaving import EXIT_FAILED, GOES_ON, last_line, leave_at_once

_log = logging.getLogger(__name__)
_SLOW = 4  # a step may take so many times as long as the longest one seen
_AFTER_YOU = 10.0  # seconds by which a rank that stands lets the others say so first


@dataclass
class State:
    """What a rank says of itself.

    Attributes:
        marks: how often it has come to a mark (`Heartbeat.mark`); of two ranks in one collective, the one with fewer
            is the one that the other waits for.
        limited: whether its next mark is due.
        iteration: of the step.
        doing: what it does beside a step ("the probes"), or "".
        process: of the machine's boot, its id and when it began: which process this is, beyond doubt.
    """

    marks: int = 0
    limited: bool = False
    iteration: int = -1
    doing: str = ""
    process: tuple[str, int, str] = ("", 0, "")


class Heartbeat(HookBase):
    """Ends the run, with a line that names the rank, when one of several ranks stands for longer than `limit` seconds.

    Must be the first hook: between its `after_step` and the next step lies what other hooks do. Every process that
    looks ends itself and, on its own machine, the one that stands; the launcher ends the rest.

    Args:
        limit: seconds; 0: never.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._state = limit, State(process=_this_process())
        self._over = threading.Event()

    def before_train(self) -> None:
        if comm.get_world_size() > 1 and self._limit > 0:
            exchange = _Exchange(self._state, self._over, self._limit)
            exchange.start()
            if comm.get_rank() in (0, comm.get_world_size() - 1):
                threading.Thread(target=_watch, args=(exchange, self._limit, self._over), daemon=True).start()

    def before_step(self) -> None:
        self._state.iteration = self.trainer.iter
        self._state.limited = self.trainer.iter > self.trainer.start_iter
        self.mark()

    def mark(self) -> None:
        """Say that this rank goes on: its batch is there, and what follows waits for the other ranks."""
        self._state.marks += 1

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Within, this rank says that it does `what`, which has no limit."""
        before, self._state.doing = self._state.doing, what
        try:
            yield
        finally:
            self._state.doing = before

    def after_step(self) -> None:
        self._state.limited = False
        self.mark()

    def after_train(self) -> None:
        self._over.set()


class _Exchange(threading.Thread):
    """Posts this rank's state and gets the others'; its calls may hang with the store."""

    def __init__(self, state: State, over: threading.Event, limit: float) -> None:
        super().__init__(daemon=True)
        store = distributed.distributed_c10d._get_default_store()
        # A connection of its own, where torch has it: another thread's wait must not hold this one.
        self._store = store.clone() if hasattr(store, "clone") else store
        self._state, self._over = state, over
        self._pause = min(5.0, limit / 10)
        self._keys = [f"clop_det/heartbeat/{rank}" for rank in range(comm.get_world_size())]
        self.rank = comm.get_rank()
        self.states: list[tuple[int, State]] = []  # of each rank, once all have posted: number of the post, state
        self.exchanges, self.broken = 0, False

    def run(self) -> None:
        number = 0
        try:
            while not self._over.wait(self._pause if number else 0):
                number += 1
                self._store.set(self._keys[self.rank], json.dumps([number, *vars(self._state).values()]))
                if self.states or self._store.check(self._keys):
                    self.states = [_state(content) for content in self._store.multi_get(self._keys)]
                self.exchanges += 1
        except Exception:  # the store has gone with its process: the group ends, or the run is over
            self.broken = True


def _state(content: bytes) -> tuple[int, State]:
    number, marks, limited, iteration, doing, process = json.loads(content)
    return number, State(marks, limited, iteration, doing, tuple(process))


def _watch(exchange: _Exchange, limit: float, over: threading.Event) -> None:
    """Until `over`: look at the states, and end this process if a rank stands."""
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    watched = _Watched(limit, None if agent else 0)
    while not over.wait(min(1.0, limit / 20)) and not exchange.broken:
        if (line := watched.look(exchange.exchanges, exchange.states, time.monotonic())) is None:
            continue
        if exchange.rank in watched.standing:
            over.wait(_AFTER_YOU)
        if over.is_set():
            return
        last_line(f"{line} {GOES_ON}")
        for rank in watched.standing[: len(exchange.states)]:
            _end(exchange.states[rank][1].process)
        leave_at_once(EXIT_FAILED)


class _Watched:
    """When each rank was last seen to go on.

    Args:
        limit: seconds.
        host: the rank whose process keeps the store; None: no rank's.

    Attributes:
        standing: the ranks that the line of `look` names.
    """

    def __init__(self, limit: float, host: int | None) -> None:
        self._limit, self._host = limit, host
        self._seen: dict[Any, tuple[Any, float]] = {}
        self._in_step: dict[int, bool] = {}
        self._looked: float | None = None
        self._longest = 0.0  # seconds between two marks of a step
        self.standing: list[int] = []

    def look(self, exchanges: int, states: list[tuple[int, State]], now: float) -> str | None:
        """What stands at time `now`, as a line for people; None if all goes on."""
        # A watcher that itself stood (a suspended job) has not seen what the others did meanwhile.
        if self._looked is not None and now - self._looked > self._limit / 2:
            self._seen.clear()
        self._looked = now
        quiet, _ = self._since("store", exchanges, now)
        if quiet > self._limit and self._host is None:
            return f"torchrun, which keeps the group's store, does not answer{_ago(quiet)} (PROCESSES.MAX_STALL)."
        found = {self._host or 0: quiet} if quiet > self._limit else self._silent(states, now)
        progress = self._without_progress(states, now)
        found = found or progress
        self.standing = sorted(found)
        if not found:
            return None
        names = f"rank{'s' if len(found) > 1 else ''} {', '.join(map(str, self.standing))}"
        last = states[self.standing[0]][1] if states else State()
        within = f" in {last.doing}" if last.doing else ""
        step = f", last seen at iteration {last.iteration}{within}" if states else ""
        return f"{names} stopped responding{_ago(max(found.values()))}{step} (PROCESSES.MAX_STALL)."

    def _silent(self, states: list[tuple[int, State]], now: float) -> dict[int, float]:
        """The ranks that post no more."""
        silent = {rank: self._since(("post", rank), number, now)[0] for rank, (number, _) in enumerate(states)}
        return {rank: seconds for rank, seconds in silent.items() if seconds > self._limit}

    def _without_progress(self, states: list[tuple[int, State]], now: float) -> dict[int, float]:
        """The ranks that the others wait for: those with the fewest marks, if their next one is overdue."""
        stood = {}
        for rank, (_, state) in enumerate(states):
            stood[rank], took = self._since(("mark", rank), state.marks, now)
            if self._in_step.get(rank):
                self._longest = max(self._longest, took)
            self._in_step[rank] = state.limited
        fewest = min((state.marks for _, state in states), default=0)
        found = {rank: stood[rank] for rank, (_, state) in enumerate(states) if state.marks == fewest}
        limit = max(self._limit, _SLOW * self._longest)
        return found if found and all(states[rank][1].limited and found[rank] > limit for rank in found) else {}

    def _since(self, what: Any, value: Any, now: float) -> tuple[float, float]:
        """Seconds since `what` had another value, and, if it has just changed, how long it had that."""
        before, when = self._seen.get(what, (None, now))
        if before == value:
            return now - when, 0.0
        self._seen[what] = value, now
        return 0.0, now - when


def _ago(seconds: float) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(time.time() - seconds))
    return f" since {when} ({seconds:.0f} s)"


def _this_process() -> tuple[str, int, str]:
    return _boot(), os.getpid(), _began(os.getpid())


def _end(process: tuple[str, int, str]) -> None:
    """SIGKILL to a process of this machine, if it is still that process."""
    boot, pid, began = process
    if boot and boot == _boot() and began and began == _began(pid) and pid != os.getpid():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _began(pid: int) -> str:
    """When the process began, in ticks since the machine's boot (Linux); "" if there is none."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
