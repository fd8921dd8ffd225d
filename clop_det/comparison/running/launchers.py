"""Starting jobs: the commands, and the launcher that runs them as processes of this machine."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from clop_det.comparison.names import JOB_CONFIG, KEEP
from clop_det.comparison.planning.jobs import Job
from clop_det.comparison.running.energy import Meter, counters
from clop_det.comparison.running.warm import WarmStart
from clop_det.engine.descent import kill_tree, stop_with_parent
from clop_det.engine.run_folder import CONFIG_NAME
from clop_det.engine.workers import cores
from clop_det.errors import UserError

LOG_NAME = "job.log"
LOCK_NAME = ".job.lock"
_ATTEMPT = "\n--- "  # begins the line in the log that names an attempt's time and command

Commands = Mapping[str, Sequence[str]]  # kind -> the words before the arguments

COMMANDS: Commands = {
    "pretrain": (sys.executable, "-m", "clop_det.commands.pretrain"),
    "convert": (sys.executable, "-m", "clop_det.commands.convert_job"),
    "detect": (sys.executable, "-m", "clop_det.commands.train"),
    "inspect": (sys.executable, "-m", "clop_det.commands.inspect_job"),
}


class FolderBusy(Exception):
    """Another process still works in the run folder."""


class Running(Protocol):
    """A job that has been started.

    `seconds`: how long it ran where that is not since it was started, known when it has ended. `meter`: what counts
    its energy; None: nothing does.
    """

    seconds: float | None
    meter: Meter | None

    def poll(self) -> int | None:
        """Exit code, or None while it runs."""

    def stop(self, at_once: bool) -> None:
        """Ask it to save and leave, or end it at once."""


class Launcher(Protocol):
    """Where jobs run."""

    slots: int

    def group(self) -> AbstractContextManager[Any]:
        """Entered around the starts of jobs that are ready together."""

    def share(self) -> dict[str, int]:
        """What one job has to itself: {"cores": processor cores, "gpus": GPUs}; for the cost of a run."""

    def start(self, job: Job, folder: Path, slot: int) -> Running:
        """Start `job` in its prepared folder; `slot` (0 .. slots-1) is its place among those that run at once."""


def command(job: Job, folder: Path, commands: Commands = COMMANDS, gpus: int = 1) -> list[str]:
    """The command line of a job; a run that has begun before is resumed; on several GPUs it is one torchrun group."""
    words = list(commands[job.kind])
    if job.config is not None:
        if gpus > 1:
            group = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus)]
            words = [words[0], *group, *words[1:]]
        words += ["--config-file", str(folder / JOB_CONFIG)]
        return [*words, "--resume"] if (folder / CONFIG_NAME).exists() else words
    if job.kind == "convert":
        words += [job.arguments["source"], str(folder / job.arguments["output"])]
        words += ["--format", job.arguments["format"]] if job.arguments["format"] else []
        words += ["--keep-heads"] if job.arguments.get("heads") == KEEP else []
        imports = job.arguments.get("imports", "").splitlines()
        return [*words, "--imports", *imports] if imports else words
    words += [job.arguments["run"], str(folder), "--examples", job.arguments["examples"]]
    return [*words, "--weights", job.arguments["weights"]]


class LocalLauncher:
    """Runs up to `slots` jobs as processes, the processor's threads and the GPUs shared out among them.

    `gpus`: per job.
    """

    def __init__(self, slots: int, commands: Commands = COMMANDS, gpus: int = 1) -> None:
        self.slots = slots
        self._commands, self._gpus = commands, gpus
        self._visible = visible_gpus() if slots > 1 or gpus > 1 else []
        if gpus > max(1, len(self._visible)):
            raise UserError(f"COMPARE.LAUNCH.GPUS_PER_JOB is {gpus}, but {len(self._visible)} GPUs are visible here.")
        forks = commands is COMMANDS and not visible_gpus() and sys.platform.startswith("linux")
        self._warm = WarmStart(self.environment(0)) if forks else None

    def group(self) -> AbstractContextManager[Any]:
        """Nothing: processes start one by one."""
        return nullcontext()

    def start(self, job: Job, folder: Path, slot: int) -> Running:
        """Start `job`.

        Raises:
            FolderBusy: a process of an earlier comparison still works in the folder.
        """
        environment = self.environment(slot)
        words = command(job, folder, self._commands, self._gpus)
        meter = Meter(counters(self.slots == 1, self._own(job, environment)))
        return LocalProcess(words, folder, environment, meter, self._warm)

    def _own(self, job: Job, environment: Mapping[str, str]) -> list[str]:
        """The GPUs that the job computes on and no other one does; none on a processor."""
        device, _, index = (str(job.config.MODEL.DEVICE) if job.config is not None else "").partition(":")
        if device != "cuda" or (self.slots > 1 and self.slots * self._gpus > len(self._visible)):
            return []
        first = int(index or 0)
        return visible_gpus(environment)[first : first + self._gpus]

    def share(self) -> dict[str, int]:
        """The threads that a job computes with, and its GPUs."""
        given = os.environ.get("OMP_NUM_THREADS", "") if self.slots == 1 else ""
        return {"cores": int(given) if given.isdecimal() else max(1, cores() // self.slots), "gpus": self._gpus}

    def environment(self, slot: int) -> dict[str, str]:
        """The environment of the job in `slot`: one process's share of threads and of GPUs."""
        environment = dict(os.environ)
        if self.slots > 1 or self._gpus > 1:
            environment |= threads(self.share()["cores"], self._gpus)
        if len(self._visible) > 1:
            groups = len(self._visible) // self._gpus
            first = slot % groups * self._gpus
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self._visible[first : first + self._gpus])
        return environment


def threads(cores: int, processes: int) -> dict[str, str]:
    """Environment variables that share a job's cores among its processes, one for each GPU."""
    share = str(max(1, cores // max(1, processes)))
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), share)


class LocalProcess:
    """A job's process; its output goes to job.log in the run folder.

    Args:
        warm: forks the process; None: it is a new one.
    """

    seconds: float | None = None

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        meter: Meter | None = None,
        warm: WarmStart | None = None,
    ) -> None:
        self.meter = meter
        # The lock is inherited, so it is held as long as the job's process lives. (torchrun's workers do not inherit
        # it; they leave when torchrun does.)
        lock = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FolderBusy(str(folder)) from error
            with (folder / LOG_NAME).open("ab") as log:
                log.write(f"{_ATTEMPT}{time.strftime('%Y-%m-%d %H:%M:%S')} {' '.join(words)}\n".encode())
                log.flush()
                variables = dict(os.environ if environment is None else environment)
                self._process = (
                    warm.start(words, variables, log.fileno(), lock)
                    if warm
                    else subprocess.Popen(
                        list(words),
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        env=variables,
                        pass_fds=(lock,),
                        start_new_session=True,  # Ctrl-C reaches the comparison alone, which tells its jobs
                        preexec_fn=stop_with_parent,
                    )
                )
        finally:
            os.close(lock)

    def poll(self) -> int | None:
        """Exit code (negative: ended by that signal), or None while it runs."""
        if self.meter is not None:
            self.meter.look(now=False)
        return self._process.poll()

    def stop(self, at_once: bool) -> None:
        """SIGTERM, which a run obeys after its step; or SIGKILL for it and what it started."""
        if self._process.poll() is not None:
            return
        if at_once:
            kill_tree(self._process.pid)
        else:
            os.kill(self._process.pid, signal.SIGTERM)


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Names of the GPUs that jobs may use, as CUDA_VISIBLE_DEVICES takes them."""
    given = environment.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(index) for index, line in enumerate(line for line in listing.splitlines() if line.startswith("GPU"))]


def failure_reason(folder: Path, code: int) -> str:
    """One line on why a job failed: its own error message if it left one."""
    if code < 0:
        try:
            return f"ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"ended by signal {-code}"
    try:
        log = (folder / LOG_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        log = ""
    _, _, own = log.rpartition(_ATTEMPT)  # what earlier attempts said does not count; the first line is the command
    lines = [line.strip() for line in own.splitlines()[1:][-200:] if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return f"exit code {code}: {(errors or lines or ['no output'])[-1]}"
