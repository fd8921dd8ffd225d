from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import HashStore

from clop_det.engine.rendezvous import agree_on_name


def test_every_attempt_has_one_name_of_its_own_over_the_same_store() -> None:
    """What the processes of an attempt left behind, at whatever moment they died, does not reach the next."""
    store, names = HashStore(), []
    store.set("clop_det/asks/2", "of a process that died before it was answered")
    for _ in range(3):
        with ThreadPoolExecutor(3) as pool:
            attempt = list(pool.map(lambda rank: agree_on_name(store, rank, 3), (1, 0, 2)))
        assert len(set(attempt)) == 1
        names.append(attempt[0])
    assert len(set(names)) == 3


def test_a_process_alone_waits_for_nobody() -> None:
    assert agree_on_name(HashStore(), 0, 1)


def test_a_rank_that_does_not_come_is_named() -> None:
    with pytest.raises(TimeoutError, match=r"ranks \[1\]"):
        agree_on_name(HashStore(), 0, 2, timedelta(seconds=0.1))
