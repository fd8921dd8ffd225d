"""How long jobs take, from the first steps of one job of each kind, run in a folder that is thrown away."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from clop_det.comparison.planning.jobs import Job, prepare_folder
from clop_det.comparison.running.display import Display
from clop_det.comparison.running.launchers import Launcher, failure_reason
from clop_det.comparison.running.progress import Estimator, read_progress

STEPS = 60  # runs write their metrics every 20 steps
LIMIT = 600.0  # seconds for one kind


def measure(jobs: Iterable[Job], estimator: Estimator, launcher: Launcher, display: Display) -> None:
    """Teach `estimator` the pace of every trained job that it knows nothing like; evaluations are not counted.

    A detection job runs without its weights, which do not exist yet and change nothing about the time of a step. One
    that cannot run so, or fails otherwise, is named and left unknown.
    """
    for job in jobs:
        if job.config is None or not job.iterations or estimator.expected(job) is not None:
            continue
        display.event(f"timing the first steps of {job.title}")
        with tempfile.TemporaryDirectory(prefix="clop_det_timing_") as name:
            pace = _pace(job, Path(name) / job.name, launcher, display)
        if pace is not None:
            estimator.learn(job, pace * job.iterations)


def _pace(job: Job, folder: Path, launcher: Launcher, display: Display) -> float | None:
    """Seconds per step."""
    assert job.config is not None
    cfg = job.config.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR, cfg.MODEL.WEIGHTS = str(folder), ""
    prepare_folder(replace(job, config=cfg, needs=()), folder)
    running = launcher.start(job, folder, 0)
    marks: list[tuple[float, int]] = []
    start = time.monotonic()
    try:
        while time.monotonic() - start < LIMIT and running.poll() is None:
            steps = read_progress(folder).iteration
            if steps and (not marks or steps > marks[-1][1]):
                marks.append((time.monotonic(), steps))
            if marks and marks[-1][1] >= min(STEPS, job.iterations):
                break
            time.sleep(0.1)
    finally:
        running.stop(at_once=True)
        while running.poll() is None:
            time.sleep(0.02)
    if len(marks) < 2:
        display.event(f"  could not: {failure_reason(folder, running.poll() or 0)}")
        return None
    # The first mark is behind starting up and the first evaluation.
    return (marks[-1][0] - marks[0][0]) / (marks[-1][1] - marks[0][1])
