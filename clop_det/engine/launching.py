"""The processes of a run: how many, where they meet, and stop signals that reach them all."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from detectron2.config import CfgNode
from detectron2.engine import launch
from detectron2.utils import comm
from torch import distributed

from clop_det.config.imports import import_again
from clop_det.engine.allocator import keep_freed_memory
from clop_det.engine.descent import stop_with_parent
from clop_det.engine.rendezvous import join_group
from clop_det.engine.stop import EXIT_STOPPED, StopRequested
from clop_det.errors import UserError


def expected_world_size(args: argparse.Namespace, device: str) -> int:
    """Number of processes that the run will have, before they meet; `device` is MODEL.DEVICE.

    Raises:
        UserError: more processes a machine than GPUs in it; see `check_meeting`.
    """
    if under_torchrun():
        return int(os.environ["WORLD_SIZE"])
    if torch.cuda.is_available() and args.num_gpus > torch.cuda.device_count():
        raise UserError(f"--num-gpus is {args.num_gpus}; this machine has {torch.cuda.device_count()}.")
    processes = max(1, int(args.num_gpus)) * int(args.num_machines)
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


def under_torchrun() -> bool:
    """Whether torchrun (or another launcher with its environment variables) started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def is_first_process(args: argparse.Namespace) -> bool:
    """Whether this process is the first of its run, or starts the first."""
    return int(os.environ.get("RANK", "0")) == 0 if under_torchrun() else int(args.machine_rank) == 0


def torchrun_restarts() -> bool:
    """Whether torchrun may start this group anew (--max-restarts): the command is the same each time, so it resumes.

    That it has done so cannot be told here: it counts the restarts only on the machine where a process failed, and the
    others are started anew with a count of 0.
    """
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


def launch_workers(
    worker: Callable[[CfgNode, argparse.Namespace], None], cfg: CfgNode, args: argparse.Namespace
) -> None:
    """Run `worker(cfg, args)` once per process.

    Under torchrun (RANK and WORLD_SIZE in the environment) this process is one of them; otherwise Detectron2's `launch`
    starts `--num-gpus` processes (on a machine without GPUs: CPU processes over gloo), and stop signals go to them all.
    """
    if under_torchrun():
        if "TORCHELASTIC_RUN_ID" in os.environ:  # other launchers may start processes from threads that end
            stop_with_parent()
        _join_torchrun(cfg.MODEL.DEVICE)
        try:
            _work(worker, cfg, args)
        finally:
            distributed.destroy_process_group()
        return
    with _stop_signals_passed_on(args.num_gpus * args.num_machines > 1):
        launch(
            _started_worker,
            args.num_gpus,
            args.num_machines,
            args.machine_rank,
            args.dist_url,
            args=(worker, cfg, args),
        )


def _started_worker(
    worker: Callable[[CfgNode, argparse.Namespace], None], cfg: CfgNode, args: argparse.Namespace
) -> None:
    try:
        _work(worker, cfg, args)
    except StopRequested:
        if multiprocessing.parent_process() is None:
            raise
        sys.exit(EXIT_STOPPED)  # an exception that is no `Exception` would not reach the parent
    except UserError as error:
        if multiprocessing.parent_process() is None:
            raise
        raise UserError(str(error)) from error  # the parent gets a text, and looks for this name in it


def _work(worker: Callable[[CfgNode, argparse.Namespace], None], cfg: CfgNode, args: argparse.Namespace) -> None:
    if cfg.MODEL.DEVICE == "cpu":
        keep_freed_memory()
    import_again(cfg)  # a spawned process has imported nothing of a user's yet
    worker(cfg, args)


@contextmanager
def _stop_signals_passed_on(wanted: bool) -> Iterator[None]:
    """Within, SIGTERM and SIGINT go to the workers, which save and leave; this process then leaves with their code."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, number)

    numbers = (signal.SIGTERM, signal.SIGINT) if wanted else ()
    previous = {number: signal.signal(number, pass_on) for number in numbers}
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
