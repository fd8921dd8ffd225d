"""Two ranks encode together: the features of one, bit for bit, and the first rank alone measures."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from torch import Tensor, distributed

from clop_det.engine.leaving import StopRequested
from clop_det.engine.ranks import first_rank_alone
from clop_det.probes.base import IMAGES, Probe, ProbeData
from clop_det.probes.encoding import encode_sets
from clop_det.probes.running import run_tasks
from tests.pretraining.processes import run_all
from tests.probes.test_encoding import encode, images

BANK, QUERIES = images(50, 3), images(21, 4)


class _Counting(Probe):
    def measure(self, data: ProbeData) -> dict[str, float]:
        return {"rows": len(data.bank)}


def run_rank(rank: int, folder: str, work: Callable[[int], object]) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    comm.create_local_process_group(2)
    torch.save(work(rank), Path(folder) / f"{rank}.pt")
    os._exit(0)


def together(work: Callable[[int], object], folder: Path) -> list[dict[str, Tensor]]:
    assert run_all(run_rank, [(rank, str(folder), work) for rank in range(2)], 120) == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def encoding(rank: int) -> dict[str, object]:
    seen: list[int] = []

    def counted(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return encode(batch)

    data = encode_sets(counted, BANK, QUERIES, 7, project=lambda features: features[:, :2])
    return {**vars(data), "seen": seen, "figures": run_tasks([_Counting({})], {IMAGES: {"": lambda: data}})}


def test_the_first_rank_gets_what_it_would_encode_alone(tmp_path: Path) -> None:
    first, second = together(encoding, tmp_path)
    alone = encode_sets(encode, BANK, QUERIES, 7)
    assert torch.equal(first["bank"], alone.bank)
    assert torch.equal(first["queries"], alone.queries)
    assert torch.equal(first["embeddings"], alone.bank[:, :2])
    assert len(second["bank"]) == len(second["queries"]) == 0
    assert first["seen"] == [7, 7, 7, 7, 7, 7]  # batches 0, 2, 4, 6 of eight and 0, 2 of three
    assert second["seen"] == [7, 7, 7, 1, 7, 7]
    assert (first["figures"], second["figures"]) == ({"rows": 50.0}, {})


def stopping(rank: int) -> dict[str, bool]:
    def stopped(batch: Tensor) -> Tensor:
        if rank == 1:
            raise StopRequested
        return encode(batch)

    with pytest.raises(StopRequested):
        encode_sets(stopped, BANK, QUERIES, 7)
    with first_rank_alone() as is_first:
        return {"is first": is_first}


def test_a_stop_of_one_rank_ends_the_encoding_of_all(tmp_path: Path) -> None:
    assert together(stopping, tmp_path) == [{"is first": True}, {"is first": False}]
