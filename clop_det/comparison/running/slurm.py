"""The launcher for clusters: every job a Slurm job through submitit, those that are ready together as one array."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from clop_det.comparison.planning.jobs import Job
from clop_det.comparison.running.launchers import COMMANDS, Commands, FolderBusy, LocalProcess, Running, command
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
            self._executor = submitit.AutoExecutor(folder=(folder / _LOGS).resolve(), cluster=cluster, **own)
            rest = {key: value for key, value in parameters.items() if key not in own}
            self._executor.update_parameters(name="clop_det", **rest)
        except (RuntimeError, NameError, ValueError, TypeError) as error:
            raise UserError(f"submitit refuses COMPARE.LAUNCH.SLURM {dict(parameters)}: {error}") from error

    def group(self) -> AbstractContextManager[Any]:
        """Jobs that are started inside become one array."""
        batch: AbstractContextManager[Any] = self._executor.batch()
        return batch

    def share(self) -> dict[str, int]:
        """The cores that a task asks Slurm for, and its GPUs."""
        return {"cores": self._cores, "gpus": self._gpus}

    def start(self, job: Job, folder: Path, slot: int) -> Running:
        """Submit `job`."""
        (folder / STOP_NAME).unlink(missing_ok=True)
        return SubmittedJob(self._executor.submit(RunJob(job, folder, self._commands, self._gpus)), folder)


class SubmittedJob:
    """A job in the queue or on a node.

    `seconds`: how long its command ran, without the time in the queue; None until it has ended with a result.
    """

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

    def __init__(self, job: Job, folder: Path, commands: Commands, gpus: int, spent: float = 0.0) -> None:
        self._arguments = job, folder, commands, gpus
        self._spent = spent  # seconds that it ran before it was preempted
        self._started = time.time()
        self._process: LocalProcess | None = None

    def __call__(self) -> tuple[int, float]:
        """Run to the end; returns the exit code and the seconds that the command ran, earlier pieces included."""
        self._started = time.time()
        job, folder, commands, gpus = self._arguments
        while True:
            try:
                self._process = LocalProcess(command(job, folder, commands, gpus), folder)
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
