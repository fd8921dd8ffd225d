"""Exact assignment against SciPy's and against every permutation."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from clop_det.losses import best_assignment


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 25), levels=st.sampled_from([2, 5, 10**6]), seed=st.integers(0, 10**6))
def test_equal_to_scipy(size: int, levels: int, seed: int) -> None:
    # Few levels: many ties and many optimal assignments, so totals are compared, not permutations.
    score = torch.randint(-levels, levels, (size, size), generator=torch.Generator().manual_seed(seed)).double()
    ours = best_assignment(score)
    rows, columns = linear_sum_assignment(score.numpy(), maximize=True)
    assert sorted(ours.tolist()) == list(range(size))
    assert score[torch.arange(size), ours].sum().item() == score.numpy()[rows, columns].sum()


def test_equal_to_the_best_of_all_permutations() -> None:
    score = torch.randn(6, 6, dtype=torch.float64)
    best = max(itertools.permutations(range(6)), key=lambda p: score[torch.arange(6), torch.tensor(p)].sum().item())
    assert best_assignment(score).tolist() == list(best)


def test_a_hundred_classes() -> None:
    score = torch.randn(100, 100)
    _, columns = linear_sum_assignment(score.numpy(), maximize=True)
    assert best_assignment(score).tolist() == columns.tolist()


@pytest.mark.parametrize("score", [torch.zeros(2, 3), torch.full((2, 2), torch.nan), torch.zeros(4)])
def test_bad_input(score: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="score: shape .*; must be a finite square matrix"):
        best_assignment(score)
