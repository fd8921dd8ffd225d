"""Several processes under DistributedDataParallel: values and gradients of one process that holds the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from clop_det.losses import Loss, build_loss
from tests.losses.helpers import every_loss, small_blocks
from tests.processes import on_ranks

CLASSES, DIM, INPUTS = 3, 8, 5
WORLD_SIZES = (1, 2, 3, 4)
NAMES = sorted(every_loss(CLASSES, DIM))
# Labels of each rank: many, none, one, few; and ranks that hold different numbers of images.
LABELS = ([0, 1, 2, 2, -1], [-1, -1, -1], [-1, -1, -1, 1], [0, 2])


class Model(nn.Module):
    """A small encoder and a loss with its parameters, as a trainer wraps them."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self.loss = loss
        torch.manual_seed(3)
        self.encoder = nn.Linear(INPUTS, DIM)

    def forward(self, views: Tensor, labels: Tensor) -> Tensor:
        value: Tensor = self.loss(self.encoder(views), labels)
        return value


def batch_of(rank: int, variant: str = "uneven") -> tuple[Tensor, Tensor]:
    """Views (2n, INPUTS) and labels (n,) of one rank."""
    labels = torch.tensor(LABELS[rank])
    if variant == "no label at all":
        labels = torch.full_like(labels, -1)
    generator = torch.Generator().manual_seed(100 + rank)
    return torch.randn(2 * len(labels), INPUTS, dtype=torch.float64, generator=generator), labels


def global_batch(world_size: int, variant: str) -> tuple[Tensor, Tensor]:
    parts = [batch_of(rank, variant) for rank in range(world_size)]
    halves = [views.chunk(2) for views, _ in parts]
    views = torch.cat([first for first, _ in halves] + [second for _, second in halves])
    return views, torch.cat([labels for _, labels in parts])


def step(model: nn.Module, views: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The value and the gradient of every parameter."""
    value = model(views, labels)
    value.backward()
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    gradients = {name: parameter.grad for name, parameter in inner.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    return {"value": value.detach(), **{name: g for name, g in gradients.items() if g is not None}}


def all_steps(rank: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for variant in ("uneven", "no label at all"):
        for name, loss in every_loss(CLASSES, DIM).items():
            results[f"{name}, {variant}"] = parallel_step(loss, rank, variant)
    return results


def parallel_step(loss: Loss, rank: int, variant: str = "uneven") -> dict[str, Tensor]:
    return step(DistributedDataParallel(Model(loss).double()), *batch_of(rank, variant))


def error_of(rank: int, bad_rank: int, views: Tensor, labels: Tensor) -> str:
    """What one rank sees when `bad_rank` alone has this input."""
    good_views, good_labels = batch_of(rank)
    loss = build_loss("clop", {}, CLASSES, DIM)
    try:
        loss(*((views, labels) if rank == bad_rank else (good_views.repeat(1, 2)[:, :DIM], good_labels)))
    except ValueError as error:
        return str(error)
    return "no error"


def work(rank: int, world_size: int) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch)
        views, labels = batch_of(world_size - 1)
        wide = views.repeat(1, 2)[:, :DIM]
        return {
            "steps": all_steps(rank),
            "nan": error_of(rank, world_size - 1, wide * torch.nan, labels),
            "label": error_of(rank, world_size - 1, wide, labels + 7),
            "rows": error_of(rank, world_size - 1, wide[1:], labels),
            "dtype": error_of(rank, world_size - 1, wide.float(), labels),
            "after": parallel_step(build_loss("clop", {}, CLASSES, DIM), rank),
        }


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, int], Any]:
    return on_ranks(work, tmp_path_factory.mktemp("parallel"), WORLD_SIZES)


@pytest.mark.parametrize("world_size", WORLD_SIZES)
@pytest.mark.parametrize("variant", ["uneven", "no label at all"])
@pytest.mark.parametrize("name", NAMES)
def test_equal_to_one_process(runs: dict[tuple[int, int], Any], name: str, variant: str, world_size: int) -> None:
    expected = step(Model(every_loss(CLASSES, DIM)[name]).double(), *global_batch(world_size, variant))
    for rank in range(world_size):
        found = runs[world_size, rank]["steps"][f"{name}, {variant}"]
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-9, msg=f"rank {rank}: {key}")


@pytest.mark.parametrize("world_size", WORLD_SIZES[1:])
def test_bad_input_of_one_rank_is_an_error_on_every_rank(runs: dict[tuple[int, int], Any], world_size: int) -> None:
    bad = world_size - 1
    for rank in range(world_size):
        result = runs[world_size, rank]
        for kind, own in {
            "nan": "values are NaN or infinite",
            "label": "must be below num_classes=3",
            "rows": "must be an even number",
        }.items():
            assert (own if rank == bad else f"rank {bad} reports bad input") in result[kind]
        assert "all must hold the same dimensions and precision" in result["dtype"]


@pytest.mark.parametrize("world_size", WORLD_SIZES)
def test_ranks_stay_in_step_after_an_error(runs: dict[tuple[int, int], Any], world_size: int) -> None:
    for rank in range(world_size):
        result = runs[world_size, rank]
        for key, value in result["steps"]["clop, uneven"].items():
            assert torch.equal(result["after"][key], value)
