"""The processes of a run: how many, where they meet, stop signals that reach them all, and what ended one."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.utils import comm
from torch import distributed
from torch.multiprocessing.spawn import ProcessExitedException

from clop_det.config.build import register_again
from clop_det.engine.allocator import keep_freed_memory
from clop_det.engine.descent import stop_with_parent
from clop_det.engine.leaving import (
    EXIT_STOPPED,
    StopRequested,
    code_of,
    last_line,
    leave,
    rank_name,
    under_torchrun,
)
from clop_det.engine.rendezvous import join_group
from clop_det.engine.streams import keep_streams
from clop_det.errors import UserError

_OPEN_FILES = 65536


@dataclass(frozen=True)
class Launch:
    """How a run is started, and what its workers are told beside the config.

    Attributes:
        num_gpus: processes of each machine; on a machine without GPUs they meet over gloo.
        num_machines: as Detectron2's `launch` takes it.
        machine_rank: the same.
        dist_url: the same.
        resume: go on from the last checkpoint.
        eval_only: evaluate, train nothing.
        traceback: show the traceback of an error in the input, too.
        notes: lines for the log of what the checks have changed.
    """

    num_gpus: int = 1
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = "auto"
    resume: bool = False
    eval_only: bool = False
    traceback: bool = False
    notes: tuple[str, ...] = ()


def expected_world_size(how: Launch, device: str) -> int:
    """Number of processes that the run will have, before they meet; `device` is MODEL.DEVICE.

    Raises:
        UserError: more processes a machine than GPUs in it; see `check_meeting`.
    """
    if under_torchrun():
        return int(os.environ["WORLD_SIZE"])
    if torch.cuda.is_available() and how.num_gpus > torch.cuda.device_count():
        raise UserError(f"--num-gpus is {how.num_gpus}; this machine has {torch.cuda.device_count()}.")
    processes = max(1, int(how.num_gpus)) * int(how.num_machines)
    check_meeting(processes, device)
    return processes


def check_meeting(processes: int, device: str) -> None:
    """Refuse processes on the CPU, started by Detectron2's `launch`, that would have to exchange tensors over NCCL.

    `launch` takes NCCL wherever it finds a GPU, whatever MODEL.DEVICE says.

    Raises:
        UserError: MODEL.DEVICE is the CPU, CUDA is available and there are several processes.
    """
    if processes > 1 and device.startswith("cpu") and torch.cuda.is_available():
        raise UserError(
            f"{processes} processes with MODEL.DEVICE {device} would meet over NCCL, which carries GPU tensors only."
            " Set MODEL.DEVICE cuda, or start the processes with torchrun, or hide the GPUs (CUDA_VISIBLE_DEVICES='')."
        )


def is_first_process(how: Launch) -> bool:
    """Whether this process is the first of its run, or starts the first."""
    return int(os.environ.get("RANK", "0")) == 0 if under_torchrun() else int(how.machine_rank) == 0


def torchrun_restarts() -> bool:
    """Whether torchrun may start this group anew (--max-restarts): the command is the same each time, so it resumes.

    That it has done so cannot be told here: it counts the restarts only on the machine where a process failed, and the
    others are started anew with a count of 0.
    """
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


def launch_workers(worker: Callable[[CfgNode, Launch], None], cfg: CfgNode, how: Launch) -> None:
    """Run `worker(cfg, how)` once per process.

    Under torchrun (RANK and WORLD_SIZE in the environment) this process is one of them; otherwise Detectron2's `launch`
    starts `--num-gpus` processes (on a machine without GPUs: CPU processes over gloo), and stop signals go to them all.

    Raises:
        UserError: of the worker, whichever process it is in.
        StopRequested: the workers were stopped, and have saved.
        ProcessExitedException: a started process failed, and has said why, or died.
    """
    if under_torchrun():
        if "TORCHELASTIC_RUN_ID" in os.environ:  # other launchers may start processes from threads that end
            stop_with_parent()
        _join_torchrun(cfg.MODEL.DEVICE)
        _work(worker, cfg, how)
        # Not after a failure: this waits for the others, which may wait for this rank.
        distributed.destroy_process_group()
    elif how.num_gpus * how.num_machines > 1:
        _launch_several(worker, cfg, how)
    else:
        launch(_work, how.num_gpus, args=(worker, cfg, how))


def _launch_several(worker: Callable[[CfgNode, Launch], None], cfg: CfgNode, how: Launch) -> None:
    with tempfile.TemporaryDirectory(prefix="clop_det_") as replies, _stop_signals_passed_on():
        try:
            launch(
                _started_worker,
                how.num_gpus,
                how.num_machines,
                how.machine_rank,
                how.dist_url,
                args=(worker, cfg, how, replies),
            )
        except ProcessExitedException as error:
            if error.exit_code == EXIT_STOPPED:
                raise StopRequested from error
            own = [Path(replies) / str(error.error_index)]
            for reply in [*own, *sorted(Path(replies).iterdir())]:  # another rank's error may have ended this one
                if reply.is_file():
                    raise UserError(reply.read_text(encoding="utf-8")) from error
            raise


def _started_worker(worker: Callable[[CfgNode, Launch], None], cfg: CfgNode, how: Launch, replies: str) -> None:
    """A process that `launch` started: it leaves a bad input's message in `replies`, and ends here."""
    keep_streams()
    code = 0
    try:
        _work(worker, cfg, how)
        distributed.destroy_process_group()
    except BaseException as error:
        code, line = code_of(error, show_traceback=how.traceback)
        if isinstance(error, UserError):
            (Path(replies) / str(comm.get_local_rank())).write_text(line, encoding="utf-8")
        elif line:
            last_line(f"{rank_name()}{line}")
    leave(code)


def _work(worker: Callable[[CfgNode, Launch], None], cfg: CfgNode, how: Launch) -> None:
    _allow_open_files()
    if cfg.MODEL.DEVICE == "cpu":
        keep_freed_memory()
    register_again(cfg)  # a spawned process has imported nothing yet
    worker(cfg, how)


def _allow_open_files() -> None:
    """Raise this process's own limit of open files to what it may have at most: loaders share memory by descriptors."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now >= _OPEN_FILES:
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _OPEN_FILES), most))


@contextmanager
def _stop_signals_passed_on() -> Iterator[None]:
    """Within, SIGTERM and SIGINT go to the workers, which save and leave; this process then leaves with their code."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, number)

    previous = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _join_torchrun(device: str) -> None:
    missing = [name for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE") if name not in os.environ]
    if missing:
        raise UserError(f"RANK and WORLD_SIZE are set, but not {' and '.join(missing)}. Start the ranks with torchrun.")
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpu = device.startswith("cuda")
    if on_gpu:
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"{local_size} processes on this machine, but {torch.cuda.device_count()} GPUs: set --nproc-per-node to"
                " the number of GPUs, or MODEL.DEVICE cpu."
            )
        torch.cuda.set_device(local_rank)
    join_group("nccl" if on_gpu else "gloo")
    # Detectron2 asks for the ranks of one machine in its own process group.
    comm.create_local_process_group(local_size)
