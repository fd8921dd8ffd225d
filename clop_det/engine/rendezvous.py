"""Where the processes that torchrun started meet, each time it starts them."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING

from torch import distributed
from torch.distributed.rendezvous import rendezvous

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

TIMEOUT = timedelta(minutes=30)

_ASK_AGAIN = 0.02  # seconds


def join_group(backend: str, timeout: timedelta = TIMEOUT) -> None:
    """`torch.distributed.init_process_group` by environment variables, also in a group that is started anew.

    torchrun's agents keep one store for all attempts, and torch's own names in it hold the addresses of the attempt
    before: a process that reads them before they are overwritten waits for a dead one, or is refused by it (measured:
    torch 2.14, gloo, on one machine and on two). Here every attempt has names of its own.
    """
    store, rank, world_size = next(rendezvous("env://", timeout=timeout))
    store.set_timeout(timeout)
    name = agree_on_name(store, rank, world_size, timeout)
    own = distributed.PrefixStore(name, store)  # type: ignore[attr-defined]
    distributed.init_process_group(backend, store=own, rank=rank, world_size=world_size, timeout=timeout)


def agree_on_name(store: Store, rank: int, world_size: int, timeout: timedelta = TIMEOUT) -> str:
    """A name that the processes of this attempt share, and no other attempt; `store` may hold what others have left.

    Each rank asks under a token of its own. The first rank answers every token that it finds, a dead process's too,
    until all have confirmed that they have got this attempt's name.

    Raises:
        TimeoutError: a rank did not come.
    """
    if rank:
        token = uuid.uuid4().hex
        store.set(f"clop_det/asks/{rank}", token)
        name = store.get(f"clop_det/answer/{token}").decode()
        store.set(f"{name}/has/{rank}", "")
        return name
    name = f"clop_det/{uuid.uuid4().hex}"
    missing, end = set(range(1, world_size)), time.monotonic() + timeout.total_seconds()
    while missing:
        for other in sorted(missing):
            if store.check([f"clop_det/asks/{other}"]):
                store.set(f"clop_det/answer/{store.get(f'clop_det/asks/{other}').decode()}", name)
        time.sleep(_ASK_AGAIN)
        missing = {other for other in missing if not store.check([f"{name}/has/{other}"])}
        if missing and time.monotonic() > end:
            raise TimeoutError(f"after {timeout} the ranks {sorted(missing)} have not come to the group")
    return name
