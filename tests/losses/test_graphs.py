"""torch.compile takes a loss as one graph; those that it cannot take are the ones that ask the host for a value."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch._dynamo.exc import Unsupported, UserError
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from clop_det.losses import loss_names
from clop_det.losses.batch import values_checked_later
from tests.losses.helpers import ASKING, assert_same, every_loss, some_labels, two_views


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", sorted({*loss_names()} - ASKING))
def test_a_loss_is_one_graph(name: str) -> None:
    loss, labels = every_loss(4, 8)[name].double(), some_labels(12, 4)
    compiled = torch.compile(loss, fullgraph=True, backend="eager")  # an error at the first break

    def as_in_a_step(embeddings: Tensor) -> Tensor:
        with values_checked_later():
            value: Tensor = compiled(embeddings, labels)
        return value

    assert_same(as_in_a_step, lambda embeddings: loss(embeddings, labels), two_views(12, 8))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ASKING))
def test_a_loss_that_chooses_on_the_host_is_none(name: str) -> None:
    """If one passes, it may leave the list, and the page that names it."""
    compiled = torch.compile(every_loss(4, 8)[name], fullgraph=True, backend="eager")
    with values_checked_later(), pytest.raises((Unsupported, UserError, GuardOnDataDependentSymNode)):
        compiled(two_views(12, 8, torch.float32), some_labels(12, 4))
