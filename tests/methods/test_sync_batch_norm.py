"""BatchNorm over two gloo processes against torch's BatchNorm on one process with all rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clop_det.methods.sync_batch_norm import SyncBatchNorm1d, SyncBatchNorm2d, synchronise_batch_norm
from tests.processes import on_ranks

SIZES = (3, 5)  # rows of each rank: not the same number
SHAPES = {"2d": (4, 6, 5), "1d": (4,)}


def rows(kind: str) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    # A mean that is large beside the deviation: E[x^2] - E[x]^2 would lose half of the digits.
    return 1000 + torch.randn(sum(SIZES), *SHAPES[kind], dtype=torch.float64, generator=generator)


def model_of(kind: str, momentum: float | None) -> nn.Sequential:
    layer = nn.BatchNorm2d(4, momentum=momentum) if kind == "2d" else nn.BatchNorm1d(4, momentum=momentum)
    torch.manual_seed(5)
    nn.init.uniform_(layer.weight)
    nn.init.uniform_(layer.bias)
    return nn.Sequential(layer, nn.Tanh()).double()


def step(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Two training steps and one evaluation; every number that could differ."""
    x = x.clone().requires_grad_()
    first = model(x)
    weights = torch.arange(first.numel(), dtype=torch.float64).view(first.shape).sin()
    (model(x) * 0.5 + first).mul(weights).sum().backward()
    gradients = {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.eval()
    with torch.no_grad():
        evaluated = model(x)
    assert x.grad is not None
    return {"output": first.detach(), "input": x.grad, "evaluated": evaluated, **gradients, **model.state_dict()}


def work(rank: int, world_size: int) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for kind in SHAPES:
        for momentum in (0.1, None):
            model = model_of(kind, momentum)
            synchronise_batch_norm(model)
            assert type(model[0]) in (SyncBatchNorm1d, SyncBatchNorm2d)
            # The sine weights of `step` count all rows; give each rank its own part of them.
            results[f"{kind} {momentum}"] = step(Part(model, rank), rows(kind).split(SIZES)[rank])
    return results


class Part(nn.Module):
    """Pads a rank's output to all rows with zeros, so that `step` weighs it as one process would."""

    def __init__(self, inner: nn.Module, rank: int) -> None:
        super().__init__()
        self.inner, self.rank = inner, rank

    def forward(self, x: Tensor) -> Tensor:
        whole = [x.new_zeros(size, *x.shape[1:]) for size in SIZES]
        whole[self.rank] = self.inner(x)
        return torch.cat(whole)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return [*on_ranks(work, tmp_path_factory.mktemp("sync"), [len(SIZES)]).values()]


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("kind", list(SHAPES))
def test_equal_to_one_process(ranks: list[dict[str, Any]], kind: str, momentum: float | None) -> None:
    expected = step(model_of(kind, momentum), rows(kind))
    found = [rank[f"{kind} {momentum}"] for rank in ranks]
    for key in ("output", "evaluated"):
        whole = sum((rank[key] for rank in found[1:]), found[0][key])
        torch.testing.assert_close(whole, expected[key], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(torch.cat([rank["input"] for rank in found]), expected["input"], rtol=1e-8, atol=1e-8)
    for name in ("0.weight", "0.bias"):
        total = sum(rank[f"gradient of inner.{name}"] for rank in found)
        torch.testing.assert_close(total, expected[f"gradient of {name}"], rtol=1e-9, atol=1e-9)
    for name in ("0.running_mean", "0.running_var", "0.num_batches_tracked"):
        for rank in found:
            torch.testing.assert_close(rank[f"inner.{name}"], expected[name], rtol=1e-12, atol=1e-12)


def test_conversion_keeps_tensors_names_and_mode() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4, eps=1e-3)), nn.BatchNorm1d(4)).eval()
    before = model.state_dict(keep_vars=True)
    synchronise_batch_norm(model)
    after = model.state_dict(keep_vars=True)
    assert list(before) == list(after)
    assert all(after[name] is tensor for name, tensor in before.items())
    assert isinstance(model[1][0], SyncBatchNorm2d)
    assert model[1][0].eps == 1e-3
    assert not any(module.training for module in model.modules())
    # In evaluation no other rank is needed.
    torch.testing.assert_close(model[2](torch.ones(2, 4)), torch.ones(2, 4), rtol=1e-4, atol=1e-4)
