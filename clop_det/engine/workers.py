"""Workers: how many cores there are for them, and what a data loader's process does before its first batch."""

from __future__ import annotations

import os
import signal

import torch


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_up_worker(worker: int) -> None:
    """A DataLoader's `worker_init_fn`: one thread, and deaf to the stop signals.

    Schedulers signal the whole process group. The trainer finishes its step and saves, and needs its workers; the
    loader tells them when it is over, and they leave by themselves when their parent is gone.
    """
    torch.set_num_threads(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
