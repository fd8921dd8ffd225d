"""Label splits: stratified, seeded, nested."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clop_det.data.splits import VisibleLabels, label_split
from clop_det.errors import UserError

counts_of_classes = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def _labels(counts: list[int]) -> torch.Tensor:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))]


@given(counts=counts_of_classes, fraction=st.floats(0.001, 1.0), seed=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_every_class_gets_its_share_and_at_least_one(counts: list[int], fraction: float, seed: int) -> None:
    labels = _labels(counts)
    chosen = label_split(labels, fraction, seed)
    assert torch.equal(chosen, chosen.unique())  # sorted, none twice
    for label, count in enumerate(counts):
        members = int((labels[chosen] == label).sum())
        assert members >= 1
        assert abs(members - fraction * count) <= 0.5 + 1e-9 or members == 1


@given(counts=counts_of_classes, seed=st.integers(0, 1000), fractions=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)))
@settings(max_examples=40, deadline=None)
def test_a_larger_fraction_contains_the_smaller(counts: list[int], seed: int, fractions: tuple[float, float]) -> None:
    smaller, larger = (set(label_split(_labels(counts), fraction, seed).tolist()) for fraction in sorted(fractions))
    assert smaller <= larger


def test_all_labels_at_fraction_one_and_none_of_the_unlabelled() -> None:
    labels = torch.tensor([0, -1, 1, 1, -1, 0])
    assert label_split(labels, 1.0, 0).tolist() == [0, 2, 3, 5]


def test_seeds_give_different_splits_and_the_same_seed_the_same() -> None:
    labels = _labels([50, 50])
    assert torch.equal(label_split(labels, 0.1, 3), label_split(labels, 0.1, 3))
    assert not torch.equal(label_split(labels, 0.1, 3), label_split(labels, 0.1, 4))


def test_every_image_is_equally_likely_to_be_labelled() -> None:
    labels = _labels([20, 20])
    hits = torch.zeros(40)
    for seed in range(1000):
        hits[label_split(labels, 0.25, seed)] += 1
    assert (hits - 250).abs().max() < 5 * (1000 * 0.25 * 0.75) ** 0.5


def test_a_class_without_an_image_is_refused() -> None:
    with pytest.raises(UserError, match="class 1 of 3"):
        label_split(torch.tensor([0, 2, 0]), 0.5, 0)
    with pytest.raises(UserError, match="class 2 of 4"):
        label_split(torch.tensor([0, 1]), 0.5, 0, num_classes=4)
    with pytest.raises(UserError, match="class 0 of 1"):
        label_split(torch.tensor([-1, -1]), 0.5, 0)
    with pytest.raises(UserError, match=r"class 1 \('dog'\) of 2"):
        label_split(torch.tensor([0, 0]), 0.5, 0, class_names=("cat", "dog"))


@given(counts=counts_of_classes, seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_count_per_class_is_met_and_nested(counts: list[int], seed: int) -> None:
    labels = _labels(counts)
    fewest = min(counts)
    chosen = label_split(labels, 0.1, seed, per_class=fewest)
    assert torch.bincount(labels[chosen]).tolist() == [fewest] * len(counts)
    smaller = label_split(labels, 0.1, seed, per_class=max(1, fewest // 2))
    assert set(smaller.tolist()) <= set(chosen.tolist())
    if fewest > 1:
        short = counts.index(fewest)
        with pytest.raises(UserError, match=rf"PER_CLASS is {fewest + 1}, but class {short} .*has {fewest} labelled"):
            label_split(labels, 0.1, seed, per_class=fewest + 1)


def test_visible_labels_hide_all_but_the_chosen() -> None:
    visible = VisibleLabels(torch.tensor([1, 2]), torch.tensor([1, 5]))
    assert visible.masked(4).tolist() == [-1, 1, 5, -1]
    assert len(visible) == 2
