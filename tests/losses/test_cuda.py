"""On a GPU: the values and gradients of the CPU, and the memory that the row blocks promise."""

from __future__ import annotations

import pytest
import torch

from clop_det.losses import InfoNCE
from tests.losses.helpers import every_loss, some_labels, two_views, value_and_gradient

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", sorted(every_loss(4, 8)))
def test_equal_to_the_cpu(name: str) -> None:
    loss, labels = every_loss(4, 8)[name], some_labels(50, 4)
    embeddings = two_views(50, 8)
    value, gradient = value_and_gradient(lambda e: loss(e, labels), embeddings)
    loss.cuda()
    found, found_gradient = value_and_gradient(lambda e: loss(e, labels.cuda()), embeddings.cuda())
    torch.testing.assert_close(found.cpu(), value, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found_gradient.cpu(), gradient, rtol=1e-10, atol=1e-10)


def test_peak_memory_stays_below_256_mib_at_8192_images() -> None:
    embeddings = torch.randn(2 * 8192, 128, device="cuda", requires_grad=True)
    labels = torch.full((8192,), -1, device="cuda")
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    InfoNCE(0.2)(embeddings, labels).backward()
    assert torch.cuda.max_memory_allocated() - before < 256 << 20
