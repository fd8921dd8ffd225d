"""The order of images is a function of (seed, iteration) alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clop_det.data.batches import BatchOrder, batch_indices
from clop_det.errors import UserError


@given(n=st.integers(1, 60), data=st.data(), seed=st.integers(0, 2**31), epoch=st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_an_epoch_visits_distinct_images_and_drops_less_than_a_batch(n: int, data, seed: int, epoch: int) -> None:  # type: ignore[no-untyped-def]
    batch_size = data.draw(st.integers(1, n))
    per_epoch = n // batch_size
    iterations = range(epoch * per_epoch, (epoch + 1) * per_epoch)
    seen = torch.cat([batch_indices(n, batch_size, i, seed) for i in iterations])
    assert seen.dtype == torch.int64
    assert len(seen) == len(seen.unique()) == n - n % batch_size
    assert seen.min() >= 0
    assert seen.max() < n


def test_order_does_not_depend_on_what_was_asked_before() -> None:
    order = BatchOrder(50, 8, seed=3)
    assert order.batches_per_epoch == 6
    forward = [order(i) for i in range(20)]
    for i in (19, 0, 7, 6, 13):
        assert torch.equal(order(i), forward[i])
        assert torch.equal(batch_indices(50, 8, i, 3), forward[i])


def test_epochs_and_seeds_differ() -> None:
    first, next_epoch, other_seed = (
        batch_indices(64, 64, 0, 0),
        batch_indices(64, 64, 1, 0),
        batch_indices(64, 64, 0, 1),
    )
    assert not torch.equal(first, next_epoch)
    assert not torch.equal(first, other_seed)


def test_every_image_is_as_likely_in_every_place() -> None:
    counts = torch.zeros(10, 10)
    for seed in range(2000):
        counts[torch.arange(10), batch_indices(10, 10, 0, seed)] += 1
    assert (counts - 200).abs().max() < 5 * 200**0.5


def test_another_process_gets_the_same_order() -> None:
    code = "from clop_det.data.batches import batch_indices; print(batch_indices(1000, 16, 77, 5).tolist())"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip().endswith(str(batch_indices(1000, 16, 77, 5).tolist()))


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(UserError, match="batch size 11 exceeds the data set's 10 images"):
        batch_indices(10, 11, 0, 0)
    with pytest.raises(ValueError, match="iteration must be >= 0"):
        batch_indices(10, 5, -1, 0)
