"""How far the jobs are and how long the rest will take, from what the runs write and from jobs that are done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clop_det.comparison.names import JOB_NAME
from clop_det.comparison.planning.jobs import Job
from clop_det.engine.metrics import METRICS_NAME, TIMING_NAME
from clop_det.errors import UserError
from clop_det.files import read_json

_TAIL = 8192  # bytes: enough for several lines of metrics


@dataclass(frozen=True)
class Progress:
    """State of a run.

    Attributes:
        iteration: steps done.
        seconds_left: what it says it still needs, evaluations not counted; None: it has not said so yet.
        changed: time of the last change of its metrics (seconds since 1970); 0: none yet.
    """

    iteration: int = 0
    seconds_left: float | None = None
    changed: float = 0.0


def read_progress(folder: Path) -> Progress:
    """Progress of the run in `folder`, from the ends of its metrics and timing files."""
    iteration, left, changed = -1, None, 0.0
    for name in (METRICS_NAME, TIMING_NAME):
        path = folder / name
        changed = max(changed, path.stat().st_mtime if path.exists() else 0.0)
        for entry in _last_lines(path):
            if isinstance(entry.get("iteration"), int):
                iteration = max(iteration, entry["iteration"])
            if isinstance(entry.get("eta_seconds"), (int, float)):
                left = float(entry["eta_seconds"])
    return Progress(iteration + 1, left, changed)


def finished_seconds(folder: Path) -> float | None:
    """Seconds that a finished job took over all its attempts, from its job.json; None if it is not known."""
    try:
        attempts = read_json(folder / JOB_NAME).get("attempts", [])
    except UserError:
        return None
    seconds = [attempt.get("seconds") for attempt in attempts]
    return None if not seconds or None in seconds else float(sum(seconds))


class Estimator:
    """Expects of a job what similar ones took: same kind, steps and batch; else the kind's time per step."""

    def __init__(self) -> None:
        self._exact: dict[tuple[Any, ...], list[float]] = {}
        self._rate: dict[str, list[float]] = {}

    def learn(self, job: Job, seconds: float) -> None:
        """Take note of a job that took `seconds` from start to end."""
        self._exact.setdefault(_similar(job), []).append(seconds)
        self._rate.setdefault(job.kind, []).append(seconds / max(job.iterations, 1))

    def expected(self, job: Job) -> float | None:
        """Seconds that the whole job will take; None while nothing like it is known."""
        for times, factor in ((self._exact.get(_similar(job)), 1), (self._rate.get(job.kind), max(job.iterations, 1))):
            if times:
                return factor * sum(times) / len(times)
        return None

    def remaining(self, waiting: Iterable[Job], running: Mapping[str, float | None], slots: int) -> tuple[float, bool]:
        """(seconds until all is done, whether that covers every job) for `slots` jobs at once."""
        known = [seconds for seconds in running.values() if seconds is not None]
        complete = len(known) == len(running)
        for job in waiting:
            seconds = self.expected(job)
            complete = complete and seconds is not None
            known.append(seconds or 0.0)
        return max([sum(known) / max(slots, 1), *known], default=0.0), complete


def _similar(job: Job) -> tuple[Any, ...]:
    batch = job.config.SOLVER.IMS_PER_BATCH if job.config is not None else 0
    return job.kind, job.iterations, batch, job.facts.get("detection", "") if job.kind != "pretrain" else ""


def _last_lines(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            lines = file.read().splitlines()
    except OSError:
        return []
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # the first line may be cut, the last may be half written
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries
