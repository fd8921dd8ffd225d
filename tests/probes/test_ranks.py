"""Two ranks encode together: the features of one, bit for bit, and the first rank alone measures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from clop_det.engine.leaving import StopRequested
from clop_det.engine.ranks import first_rank_alone
from clop_det.engine.workers import cores
from clop_det.probes.base import IMAGES, Probe, ProbeData
from clop_det.probes.encoding import encode_sets
from clop_det.probes.running import run_tasks
from tests.probes.test_encoding import encode, images
from tests.processes import on_ranks

BANK, QUERIES = images(50, 3), images(21, 4)


class _Counting(Probe):
    def measure(self, data: ProbeData) -> dict[str, float]:
        return {"rows": len(data.bank)}


def encoding(rank: int, world_size: int) -> dict[str, object]:
    seen: list[int] = []

    def counted(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return encode(batch)

    data = encode_sets(counted, BANK, QUERIES, 7, project=lambda features: features[:, :2])
    return {**vars(data), "seen": seen, "figures": run_tasks([_Counting({})], {IMAGES: {"": lambda: data}})}


def test_the_first_rank_gets_what_it_would_encode_alone(tmp_path: Path) -> None:
    first, second = on_ranks(encoding, tmp_path, [2]).values()
    alone = encode_sets(encode, BANK, QUERIES, 7)
    assert torch.equal(first["bank"], alone.bank)
    assert torch.equal(first["queries"], alone.queries)
    assert torch.equal(first["embeddings"], alone.bank[:, :2])
    assert len(second["bank"]) == len(second["queries"]) == 0
    assert first["seen"] == [7, 7, 7, 7, 7, 7]  # batches 0, 2, 4, 6 of eight and 0, 2 of three
    assert second["seen"] == [7, 7, 7, 1, 7, 7]
    assert (first["figures"], second["figures"]) == ({"rows": 50.0}, {})


def stopping(rank: int, world_size: int) -> dict[str, bool]:
    def stopped(batch: Tensor) -> Tensor:
        if rank == 1:
            raise StopRequested
        return encode(batch)

    with pytest.raises(StopRequested):
        encode_sets(stopped, BANK, QUERIES, 7)
    with first_rank_alone() as is_first:
        return {"is first": is_first}


def test_a_stop_of_one_rank_ends_the_encoding_of_all(tmp_path: Path) -> None:
    assert [*on_ranks(stopping, tmp_path, [2]).values()] == [{"is first": True}, {"is first": False}]


def counting_threads(rank: int, world_size: int) -> dict[str, int]:
    before = torch.get_num_threads()
    with first_rank_alone():
        within = torch.get_num_threads()
    return {"before": before, "within": within, "after": torch.get_num_threads()}


@pytest.mark.skipif(cores() < 2, reason="one core: there are no threads of others")
def test_the_first_rank_has_the_threads_of_the_ranks_that_wait(tmp_path: Path) -> None:
    first, second = on_ranks(counting_threads, tmp_path, [2]).values()
    assert first == {"before": 1, "within": 2, "after": 1}
    assert second == {"before": 1, "within": 1, "after": 1}
