"""What a start would run, and how long that takes."""

from __future__ import annotations

from collections.abc import Sequence

from clop_det.comparison.planning.jobs import Job
from clop_det.comparison.planning.plan import Plan
from clop_det.comparison.running.display import Display
from clop_det.comparison.running.launchers import Launcher
from clop_det.comparison.running.measure import measure
from clop_det.comparison.running.progress import Estimator, finished_seconds
from clop_det.engine.clock import clock


def describe(
    plan: Plan, jobs: dict[str, Job], todo: list[str], again: Sequence[str], slots: int, here: Launcher | None
) -> None:
    """Print the jobs and what they take; with a launcher, the first steps of each kind are run and timed.

    Those of `again` begin anew: their folders would be moved aside.
    """
    estimator = Estimator()
    for name, job in jobs.items():
        seconds = None if name in todo else finished_seconds(plan.root / name)
        if seconds is not None:
            estimator.learn(job, seconds)
    if here is not None:
        measure((jobs[name] for name in todo), estimator, here, Display())
    for name, job in jobs.items():
        expected = estimator.expected(job)
        begun = name not in again and (plan.root / name).exists()
        state = "done" if name not in todo else "resume" if begun else "run"
        steps = f"{job.iterations} steps" if job.iterations else ""
        about = f"about {clock(expected)}" if expected and state != "done" else ""
        print(f"{state:7} {name:64} {steps:12} {about}".rstrip())
    total, complete = estimator.remaining((jobs[name] for name in todo), {}, slots)
    time = f", {'about' if complete else 'at least'} {clock(total)} with {slots} at once" if total else ""
    print(f"{len(jobs)} jobs, {len(todo)} to run{time}")
    if plan.matrix.sequential and todo:
        print("COMPARE.SEQUENTIAL leaves out those whose verdict is settled before they start.")
    if todo and not complete and here is None:
        print("No job like some of these has been timed yet; add --measure to run the first steps of each kind.")
