"""torch.compile takes the encoder as one graph, with BatchNorm over the ranks too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

from clop_det.methods.encoder import build_encoder
from clop_det.methods.sync_batch_norm import synchronise_batch_norm


@pytest.fixture
def _group() -> Iterator[None]:
    """A group of two ranks that exchange nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    dist.destroy_process_group()
    torch._dynamo.reset()


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("synchronised", [False, True])
def test_the_encoder_is_one_graph(synchronised: bool) -> None:
    encoder = build_encoder("resnet18", {"stem": "cifar"}, 16, 8)
    if synchronised:
        synchronise_batch_norm(encoder)
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")  # an error at the first break
    compiled(torch.randn(4, 3, 32, 32))[1].sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())
