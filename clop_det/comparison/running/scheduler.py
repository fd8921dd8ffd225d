"""Runs the jobs that are left: as many at once as the launcher has slots, each when its needs are done."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from clop_det.comparison.names import JOB_NAME
from clop_det.comparison.planning.jobs import Job, is_done, prepare_folder
from clop_det.comparison.running.display import Display
from clop_det.comparison.running.launchers import FolderBusy, Launcher, Running, failure_reason
from clop_det.comparison.running.progress import Estimator, finished_seconds, read_progress
from clop_det.engine.clock import clock
from clop_det.engine.leaving import EXIT_STOPPED
from clop_det.files import write_json

_REDRAW = 1.0  # seconds between looks at how far the jobs are, and at a folder in which something still works
GRACE = 120.0  # seconds that a job has to save after SIGTERM before it is ended


@dataclass
class Outcome:
    """What became of the jobs that had to run: names, and for failures the reason."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)
    stopped: bool = False


@dataclass
class _Active:
    process: Running
    slot: int
    record: dict[str, Any]
    started: float
    mark: tuple[float, int] | None = None  # when the first of its own steps was seen, and which it was
    asked_to_stop: bool = False


class Scheduler:
    """Runs `todo` (names in `jobs`, needs before users) in folders under `root`."""

    def __init__(
        self,
        jobs: Mapping[str, Job],
        todo: list[str],
        root: Path,
        launcher: Launcher,
        display: Display,
        poll: float = 0.1,
    ) -> None:
        self._jobs, self._root, self._launcher, self._display, self._poll = jobs, root, launcher, display, poll
        self._waiting = list(todo)
        self._total = len(todo)
        self._active: dict[str, _Active] = {}
        self._busy: dict[str, float] = {}  # name -> when to look again whether its folder is free
        self._signals = 0
        self._deadline = 0.0
        self._shown = 0.0
        self._estimator = Estimator()
        self.outcome = Outcome()
        for name in jobs:
            if name not in todo:
                self._learn(name)

    def run(self) -> Outcome:
        """Run until all is done, failed or blocked, or until SIGINT or SIGTERM (a second one ends jobs at once)."""
        with self._catch_signals():
            while (self._waiting and not self._signals) or self._active:
                self._collect()
                if self._signals:
                    self._stop_active()
                else:
                    self._start_ready()
                self._show()
                if self._active or self._waiting:
                    time.sleep(self._poll)
        self._display.clear()
        self.outcome.stopped = bool(self._signals)
        return self.outcome

    def _start_ready(self) -> None:
        ready = []
        for name in list(self._waiting):
            job = self._jobs[name]
            lost = [need for need in job.needs if need in self.outcome.failed or need in self.outcome.blocked]
            if lost:
                self._waiting.remove(name)
                self.outcome.blocked.append(name)
                self._display.event(f"  skipped  {job.title}: needs {lost[0]}")
            elif all(self._ready(need) for need in job.needs):
                ready.append(name)
        now = time.monotonic()
        ready = [name for name in ready if self._busy.get(name, 0.0) <= now][: self._launcher.slots - len(self._active)]
        if ready:
            with self._launcher.group():
                for name in ready:
                    self._start(name)

    def _ready(self, need: str) -> bool:
        return need not in self._waiting and need not in self._active

    def _start(self, name: str) -> None:
        job, folder = self._jobs[name], self._root / name
        slot = min(set(range(self._launcher.slots)) - {active.slot for active in self._active.values()})
        record = prepare_folder(job, folder)
        try:
            process = self._launcher.start(job, folder, slot)
        except FolderBusy:
            if name not in self._busy:
                self._display.event(f"  waiting  {job.title}: a process of an earlier start still works in {folder}")
            self._busy[name] = time.monotonic() + _REDRAW
            return
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        record["attempts"].append({"started": started, **self._launcher.share()})
        write_json(folder / JOB_NAME, record)
        self._waiting.remove(name)
        self._active[name] = _Active(process, slot, record, time.monotonic())
        again = " (resumed)" if len(record["attempts"]) > 1 else ""
        expected = self._estimator.expected(job)
        about = f", about {clock(expected)}" if expected and not again else ""
        self._display.event(f"[{self._number()}/{self._total}] start    {job.title}{again}{about}")

    def _collect(self) -> None:
        for name, active in list(self._active.items()):
            code = active.process.poll()
            if code is not None:
                del self._active[name]
                self._finish(name, active, code)

    def _finish(self, name: str, active: _Active, code: int) -> None:
        job, folder = self._jobs[name], self._root / name
        own = active.process.seconds
        seconds = time.monotonic() - active.started if own is None else own
        lacking = job.product and not (folder / job.product).exists()
        done = code == 0 and is_done(job, folder) and not lacking
        reason = failure_reason(folder, code) if code else f"it left no {job.product if lacking else 'results.json'}"
        stopped = not done and (self._signals > 0 or code == EXIT_STOPPED)
        active.record["attempts"][-1].update(
            seconds=round(seconds, 2), exit_code=code, reason="" if done or stopped else reason, stopped=stopped
        )
        if active.process.meter is not None and (joules := active.process.meter.joules()):
            active.record["attempts"][-1]["joules"] = joules
        write_json(folder / JOB_NAME, active.record)
        if done:
            self.outcome.done.append(name)
            self._learn(name)
            self._display.event(f"  done     {job.title} in {clock(seconds)}")
        elif stopped:
            self._display.event(f"  stopped  {job.title}: the next start resumes it")
            if not self._signals:
                self.outcome.failed[name] = "stopped from outside; the next start resumes it"
        else:
            self.outcome.failed[name] = reason
            self._display.event(f"  FAILED   {job.title}: {reason}\n           log: {folder / 'job.log'}")

    def _learn(self, name: str) -> None:
        seconds = finished_seconds(self._root / name)
        if seconds is not None:
            self._estimator.learn(self._jobs[name], seconds)

    def _left(self, name: str) -> float | None:
        """Seconds that an active job still needs: from its steps so far, its own estimate, or what its like took."""
        active, job, now = self._active[name], self._jobs[name], time.monotonic()
        progress = read_progress(self._root / name)
        if active.mark is None and progress.changed > time.time() - (now - active.started):
            active.mark = now, progress.iteration  # starting up and the first evaluation are behind it
        if active.mark is not None and job.iterations:
            seconds, steps = now - active.mark[0], progress.iteration - active.mark[1]
            if steps >= max(10, job.iterations // 20):
                return seconds / steps * (job.iterations - progress.iteration)
            if progress.seconds_left is not None:
                return progress.seconds_left
        expected = self._estimator.expected(job)
        return None if expected is None else max(0.0, expected - (now - active.started))

    def _show(self) -> None:
        if not self._active or time.monotonic() - self._shown < _REDRAW:
            return
        self._shown = time.monotonic()
        left = {name: self._left(name) for name in self._active}
        parts = []
        for name, seconds in left.items():
            job = self._jobs[name]
            step = f" {read_progress(self._root / name).iteration}/{job.iterations}" if job.iterations else ""
            parts.append(f"{job.title}{step}" + (f" ({clock(seconds)} left)" if seconds is not None else ""))
        total, complete = self._estimator.remaining((self._jobs[n] for n in self._waiting), left, self._launcher.slots)
        whole = (
            f"all done in {'about' if complete else 'at least'} {clock(total)}" if total else "timing the first steps"
        )
        self._display.status(f"[{self._number()}/{self._total}] {' + '.join(parts)} · {whole}")

    def _number(self) -> int:
        return self._total - len(self._waiting)

    def _stop_active(self) -> None:
        at_once = self._signals > 1 or time.monotonic() > self._deadline
        for active in self._active.values():
            if at_once or not active.asked_to_stop:
                active.process.stop(at_once)
                active.asked_to_stop = True

    @contextmanager
    def _catch_signals(self) -> Iterator[None]:
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals == 1:
            self._deadline = time.monotonic() + GRACE
            self._display.event(f"{signal.Signals(number).name}: jobs save and leave (again: end them at once)")
