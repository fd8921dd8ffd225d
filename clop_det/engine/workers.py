"""Workers: how many cores there are for them, data loaders, and how a loader's processes live and end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from functools import cache
from multiprocessing import util
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from clop_det.errors import UserError

_SHARED = Path("/dev/shm")
_GRACE = 1.0  # seconds for daemon processes to obey before they are killed, at exit


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def batch_loader(dataset: Dataset[Any], sampler: Any, workers: int, **options: Any) -> DataLoader[Any]:
    """A DataLoader over a data set that gives a whole batch for each thing the sampler names.

    Its worker processes have one thread, outlive stop signals (see `set_up_worker`) and end with this process at the
    latest, whatever still refers to their iterator then.
    """
    if workers:
        _end_daemons_at_exit(os.getpid())
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=set_up_worker,
        **options,
    )


def shared_memory_free() -> int | None:
    """Bytes that are free in /dev/shm, through which workers hand over their batches; None where there is none."""
    if not _SHARED.is_dir():
        return None
    found = os.statvfs(_SHARED)
    return found.f_bavail * found.f_frsize


def check_shared_memory(needed: int, what: str) -> None:
    """Refuse workers whose batches do not fit into /dev/shm: the kernel would kill them without a word.

    Args:
        needed: bytes that lie in it at once.
        what: of what, for the message: "batches of 256 images".

    Raises:
        UserError: too little is free; names the bytes and two remedies.
    """
    free = shared_memory_free()
    if free is not None and free < needed:
        raise UserError(
            f"the worker processes hand {what} over through {_SHARED}, where {needed / 1e6:.0f} MB are needed and"
            f" {free / 1e6:.0f} MB are free. Make it larger (docker run --shm-size {-(-2 * needed // 10**9)}g), or set"
            " DATALOADER.NUM_WORKERS 0."
        )


def set_up_worker(worker: int) -> None:
    """A DataLoader's `worker_init_fn`: one thread, and deaf to the stop signals.

    Schedulers signal the whole process group. The trainer finishes its step and saves, and needs its workers; the
    loader tells them when it is over, and they leave by themselves when the process that loads is gone.
    """
    torch.set_num_threads(1)
    threading.Thread(target=_leave_with_loader, daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _leave_with_loader() -> None:
    # torch looks whether the parent is still the same, which under "forkserver" (Python 3.14's default) is the server:
    # that lives on as long as its children do.
    loader = multiprocessing.parent_process()
    if loader is not None:
        loader.join()
        os._exit(1)


@cache
def _end_daemons_at_exit(process: int) -> None:
    """Once for each process: what multiprocessing runs before it waits for its children is not inherited by a fork."""
    util.Finalize(None, _end_daemons, exitpriority=100)


def _end_daemons() -> None:
    """End this process's daemon children, the deaf ones too: multiprocessing only asks them and then waits for ever."""
    children = [child for child in multiprocessing.active_children() if child.daemon]
    if not children:
        return
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler takes an ended worker for a failed one
    for child in children:
        child.terminate()
    until = time.monotonic() + _GRACE
    for child in children:
        child.join(max(0.0, until - time.monotonic()))
        child.kill()


def _unchanged(batch: Any) -> Any:
    return batch
