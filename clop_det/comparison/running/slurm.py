"""The launcher for clusters: every job a Slurm job through submitit, those that are ready together as one array."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clop_det.comparison.planning.jobs import Job
from clop_det.comparison.running.energy import Meter
from clop_det.comparison.running.launchers import (
    COMMANDS,
    Commands,
    FolderBusy,
    LocalProcess,
    Running,
    command,
    threads,
)
from clop_det.errors import UserError

STOP_NAME = ".stop"  # its presence in a run folder asks the job to save and leave
_LOGS = "slurm"
_POLL = 0.2
_OF_THE_EXECUTOR = ("slurm_max_num_timeout",)  # how often a job that ran out of time is queued again; submitit's 3


class SubmititLauncher:
    """Submits jobs; a preempted one saves, is queued again and resumes.

    Args:
        slots: most jobs queued or running at once.
        folder: of the comparison; submitit's own files go into slurm/ there. All nodes must see it.
        parameters: of submitit's executor: timeout_min, slurm_partition, gpus_per_node, mem_gb, ...
        gpus: per job; above 1 each trainer is one torchrun group.
        cluster: "slurm", or "local" for processes of this machine behind the same interface.

    Raises:
        UserError: submitit is not installed, there is no Slurm here, or a parameter is unknown to submitit.
    """

    def __init__(
        self,
        slots: int,
        folder: Path,
        parameters: Mapping[str, Any],
        gpus: int = 1,
        commands: Commands = COMMANDS,
        cluster: str = "slurm",
    ) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UserError(
                "--launcher slurm needs submitit: pip install submitit, or use --launcher local."
            ) from error
        self.slots = slots
        self._gpus, self._commands = gpus, commands
        own = {key: value for key, value in parameters.items() if key in _OF_THE_EXECUTOR}
        try:
            self._cores = int(parameters.get("cpus_per_task", 1))
            rest = {key: value for key, value in parameters.items() if key not in own}
            self._executor, self._quick = (
                submitit.AutoExecutor(folder=(folder / _LOGS).resolve(), cluster=cluster, **own) for _ in range(2)
            )
            self._executor.update_parameters(name="clop_det", **rest)
            self._quick.update_parameters(name="clop_det", **_of_one_process(rest, gpus))
        except (RuntimeError, NameError, ValueError, TypeError) as error:
            raise UserError(f"submitit refuses COMPARE.LAUNCH.SLURM {dict(parameters)}: {error}") from error

    @contextmanager
    def group(self) -> Iterator[None]:
        """Jobs that are started inside become one array of trainings and one of quick jobs."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No submission happened")  # one of the two may stay empty
            with self._executor.batch(), self._quick.batch():
                yield

    def share(self) -> dict[str, int]:
        """The cores that a task asks Slurm for, and its GPUs."""
        return {"cores": self._cores, "gpus": self._gpus}

    def start(self, job: Job, folder: Path, slot: int) -> Running:
        """Submit `job`."""
        (folder / STOP_NAME).unlink(missing_ok=True)
        executor = self._quick if job.config is None else self._executor
        return SubmittedJob(executor.submit(RunJob(job, folder, self._commands, self._gpus, self._cores)), folder)


def _of_one_process(parameters: Mapping[str, Any], gpus: int) -> dict[str, Any]:
    """What a job of one process asks for, of `parameters` for a group of `gpus` processes: one GPU, its share of cores.

    Conversions and inspections are such jobs; eight GPUs would wait for them.
    """
    own = dict(parameters)
    for key in ("gpus_per_node", "slurm_gpus_per_node", "slurm_gpus_per_task"):
        if str(own.get(key, "")).isdecimal() and int(own[key]) > 1:
            own[key] = 1
    if gpus > 1 and "cpus_per_task" in own:
        own["cpus_per_task"] = max(1, int(own["cpus_per_task"]) // gpus)
    return own


class SubmittedJob:
    """A job in the queue or on a node.

    `seconds`: how long its command ran, without the time in the queue; None until it has ended with a result. Energy is
    not measured: others may work on the node.
    """

    meter: Meter | None = None

    def __init__(self, job: Any, folder: Path) -> None:
        self._job, self._folder = job, folder
        self.seconds: float | None = None

    def poll(self) -> int | None:
        """The command's exit code, 1 if the cluster ended it without one, None while it waits or runs."""
        if not self._job.done():
            return None
        try:
            code, self.seconds = self._job.result()
            return int(code)
        except Exception:  # submitit raises many kinds for a job that left no result
            return 1

    def stop(self, at_once: bool) -> None:
        """Ask it to save and leave; one that still waits in the queue is taken out of it."""
        (self._folder / STOP_NAME).touch()
        if at_once or str(self._job.state) == "PENDING":
            self._job.cancel()


class RunJob:
    """What runs on the node: the job's command, with submitit's protocol for preemption."""

    def __init__(
        self, job: Job, folder: Path, commands: Commands, gpus: int, cores: int = 1, spent: float = 0.0
    ) -> None:
        self._arguments = job, folder, commands, gpus, cores
        self._spent = spent  # seconds that it ran before it was preempted
        self._started = time.time()
        self._process: LocalProcess | None = None

    def __call__(self) -> tuple[int, float]:
        """Run to the end; returns the exit code and the seconds that the command ran, earlier pieces included."""
        self._started = time.time()
        job, folder, commands, gpus, cores = self._arguments
        # torchrun would give each of its processes one thread.
        environment = {**os.environ, **threads(cores, gpus)} if gpus > 1 and job.config is not None else None
        while True:
            try:
                self._process = LocalProcess(command(job, folder, commands, gpus), folder, environment)
                break
            except FolderBusy:  # the process that was preempted is still saving
                time.sleep(_POLL)
        asked = False
        while (code := self._process.poll()) is None:
            if not asked and (folder / STOP_NAME).exists():
                asked = True
                self._process.stop(at_once=False)
            time.sleep(_POLL)
        return code, self._seconds()

    def _seconds(self) -> float:
        return self._spent + time.time() - self._started

    def checkpoint(self, *args: Any) -> Any:
        """Called by submitit when the job is preempted or out of time: save, and say how to go on."""
        import submitit

        if self._process is not None:
            self._process.stop(at_once=False)
            while self._process.poll() is None:
                time.sleep(_POLL)
        return submitit.helpers.DelayedSubmission(RunJob(*self._arguments, spent=self._seconds()))
