"""What every data loader's worker process does before its first batch."""

from __future__ import annotations

import signal

import torch


def set_up_worker(worker: int) -> None:
    """A DataLoader's `worker_init_fn`: one thread, and deaf to the stop signals.

    Schedulers signal the whole process group. The trainer finishes its step and saves, and needs its workers; the
    loader tells them when it is over, and they leave by themselves when their parent is gone.
    """
    torch.set_num_threads(1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
