"""What the ranks of a run do together beside the steps: share buffers, and wait while the first one works alone."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.utils import comm
from torch import distributed, nn

from clop_det.engine.workers import cores

_ASK_AGAIN = 0.1  # seconds at most between two looks of a rank that waits
_turns = itertools.count()


def share_buffers(model: nn.Module) -> None:
    """Give every process the first one's buffers, in place.

    Plain BN keeps running statistics of each process's own images; what is evaluated must be what a checkpoint holds.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


@contextmanager
def first_rank_alone() -> Iterator[bool]:
    """Whether this rank is the first, which alone has work inside the block; the others wait for it at its end.

    They wait for as long as it takes, where a collective would give up after half an hour; meanwhile the first one
    computes with the threads of those on its machine, too. All ranks must enter.
    """
    if comm.get_world_size() == 1:
        yield True
        return
    store = distributed.distributed_c10d._get_default_store()
    key = f"clop_det/alone/{next(_turns)}"
    if comm.get_rank() == 0:
        threads = torch.get_num_threads()
        torch.set_num_threads(max(threads, min(cores(), threads * comm.get_local_size())))
        try:
            yield True
        finally:
            torch.set_num_threads(threads)
        store.set(key, "")
        return
    yield False
    pause = 0.001
    while not store.check([key]):
        time.sleep(pause)
        pause = min(_ASK_AGAIN, 2 * pause)
