"""Every method on one, two and three ranks: parts, weights and buffers are those of one process without a group."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from clop_det.data.views import Views
from clop_det.methods import METHODS as REGISTERED
from clop_det.methods.byol import Byol
from clop_det.methods.dino import Dino
from clop_det.methods.fixmatch import FixMatch
from clop_det.methods.moco_v2 import MoCoV2
from clop_det.methods.moco_v3 import MoCoV3
from clop_det.methods.simmatch import SimMatch
from clop_det.methods.single import Single
from clop_det.methods.sync_batch_norm import synchronise_batch_norm
from tests.processes import on_ranks

from .helpers import N, built, labels_of, made
from .test_dense import built as built_dense
from .test_dense import placed

STEPS, WORLD_SIZES, SMALL = 4, (1, 2, 3), 2
METHODS: dict[str, Any] = {
    "single": lambda: built(Single),
    "byol": lambda: built(Byol, loss_weight=0.5),
    "moco_v2": lambda: built(MoCoV2, queue=30, loss_weight=0.5),
    "moco_v3": lambda: built(MoCoV3),
    "dino": lambda: built(Dino, prototypes=7, local_views=SMALL, freeze=0.3, momentum=0.5),
    "fixmatch": lambda: built(FixMatch),
    "simmatch": lambda: built(SimMatch, bank=10, threshold=0.4, alignment=3, loss_weight=0.5),
    "dense": lambda: built_dense(match="features", momentum=0.5),
    "dense by location": lambda: built_dense(match="location", loss_weight=0.5),
}


def part_of(views: Views, part: slice) -> Views:
    further = tuple(part_of(group, part) for group in views.further)
    return Views(views.pixels[:, part], views.boxes[:, part], views.flips[:, part], views.kinds, further)


def train(name: str, rank: int, world_size: int) -> dict[str, Tensor]:
    """The parts of every step, and the state after the last."""
    method = METHODS[name]()
    trained = {parameter for module in method.trained for parameter in module.parameters()}
    for parameter in method.parameters():
        parameter.requires_grad_(parameter in trained)
    called = method
    if dist.is_initialized():
        synchronise_batch_norm(method)
        called = DistributedDataParallel(method, broadcast_buffers=False)
    optimizer = torch.optim.SGD(list(trained), lr=0.05)
    part = slice(rank * N // world_size, (rank + 1) * N // world_size)
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        optimizer.zero_grad()
        parts = called(part_of(placed(made(step, small=SMALL), step), part), labels_of(step)[part])
        sum(parts.values()).backward()
        optimizer.step()
        method.after_step((step + 1) / STEPS)
        found |= {f"step {step}, {key}": value.detach() for key, value in parts.items()}
    return found | method.state_dict()


def work(rank: int, world_size: int) -> dict[str, dict[str, Tensor]]:
    return {name: train(name, rank, world_size) for name in METHODS}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Any]:
    return on_ranks(work, tmp_path_factory.mktemp("methods"), WORLD_SIZES)


def test_no_method_is_left_out() -> None:
    shipped = {name for name in REGISTERED.names() if REGISTERED.entry(name).module.startswith("clop_det.")}
    assert {name.split()[0] for name in METHODS} == shipped


@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("name", METHODS)
def test_equal_to_one_process(runs: dict[tuple[int, int], Any], name: str, world_size: int) -> None:
    expected = train(name, 0, 1)
    for rank in range(world_size):
        found = runs[world_size, rank][name]
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-8, atol=1e-9, msg=lambda m, k=key: f"{k}: {m}")
