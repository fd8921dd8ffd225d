"""Long tails and wrong labels: sizes in closed form, distributions, nesting, what is refused."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from clop_det.data.label_studies import long_tail, noisy_labels
from clop_det.errors import UserError


def _balanced(classes: int, each: int) -> torch.Tensor:
    return torch.arange(classes).repeat(each)


@pytest.mark.parametrize(("classes", "each", "ratio"), [(10, 500, 100.0), (5, 64, 10.0), (2, 30, 3.0), (4, 20, 20.0)])
def test_equal_classes_become_an_exponential_tail(classes: int, each: int, ratio: float) -> None:
    labels = _balanced(classes, each)
    kept = long_tail(labels, torch.arange(len(labels)), ratio, seed=0)
    sizes = sorted(torch.bincount(labels[kept], minlength=classes).tolist(), reverse=True)
    expected = [math.floor(each * ratio ** (-rank / (classes - 1)) + 0.5) for rank in range(classes)]
    assert sizes == expected
    assert sizes[0] / sizes[-1] == pytest.approx(ratio, rel=0.1)
    assert torch.equal(kept, kept.unique())


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=6),
    ratio=st.floats(1.0, 5.0),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_unequal_classes_follow_the_same_law_or_are_refused(counts: list[int], ratio: float, seed: int) -> None:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    try:
        kept = long_tail(labels, torch.arange(len(labels)), ratio, seed)
    except UserError:
        assert min(counts) < ratio
        return
    assert min(counts) >= ratio * (1 - 1e-8)
    sizes = sorted(torch.bincount(labels[kept], minlength=len(counts)).tolist(), reverse=True)
    assert sizes[-1] >= 1
    if ratio > 1:
        top = [(size - 0.5, size + 0.5) for size in sizes]
        scale = [ratio ** (rank / (len(counts) - 1)) for rank in range(len(counts))]
        low = max(bounds[0] * factor for bounds, factor in zip(top, scale, strict=True))
        high = min(bounds[1] * factor for bounds, factor in zip(top, scale, strict=True))
        assert low <= high + 1e-6  # one n fits all rounded sizes


def test_a_stronger_tail_is_a_subset_and_seeds_differ() -> None:
    labels = _balanced(6, 100)
    everything = torch.arange(len(labels))
    kept = [set(long_tail(labels, everything, ratio, 3).tolist()) for ratio in (1, 2, 10, 50)]
    assert kept[3] < kept[2] < kept[1] < kept[0]
    ranks = {tuple(torch.bincount(labels[long_tail(labels, everything, 50, seed)]).tolist()) for seed in range(20)}
    assert len(ranks) > 10


@given(
    counts=st.lists(st.integers(20, 120), min_size=2, max_size=6),
    ratios=st.lists(st.floats(1.0, 20.0), min_size=2, max_size=4),
    seed=st.integers(0, 10_000),
)
@example(counts=[100, 10], ratios=[1.0, 1.5, 2.0, 5.0, 10.0], seed=3)
@example(counts=[10, 100], ratios=[1.0, 1.5, 2.0, 5.0, 10.0], seed=5)
@settings(max_examples=60, deadline=None)
def test_a_stronger_tail_of_unequal_classes_is_a_subset_too(counts: list[int], ratios: list[float], seed: int) -> None:
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    kept = [set(long_tail(labels, torch.arange(len(labels)), ratio, seed).tolist()) for ratio in sorted(ratios)]
    assert all(stronger <= weaker for weaker, stronger in itertools.pairwise(kept))


def test_the_head_is_as_large_as_the_smallest_class() -> None:
    labels = torch.cat([torch.zeros(100, dtype=torch.int64), torch.ones(10, dtype=torch.int64)])
    for seed in range(8):
        for ratio, rarest in ((1.5, 7), (2, 5), (5, 2), (10, 1)):
            kept = labels[long_tail(labels, torch.arange(110), ratio, seed)]
            assert sorted(torch.bincount(kept).tolist()) == [rarest, 10]


def test_only_the_given_images_are_thinned() -> None:
    labels = _balanced(3, 40)
    given_images = torch.arange(0, 120, 2)
    assert set(long_tail(labels, given_images, 4, 0).tolist()) < set(given_images.tolist())


def test_too_strong_an_imbalance_names_what_is_possible() -> None:
    labels = _balanced(4, 6)
    with pytest.raises(
        UserError, match=r"LABELS.IMBALANCE is 10, but the smallest class has only 6 visible labels.*lower it"
    ):
        long_tail(labels, torch.arange(24), 10, 0)
    assert torch.bincount(labels[long_tail(labels, torch.arange(24), 6, 0)]).min() == 1


@given(share=st.floats(0, 0.6), seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_the_share_is_met_and_every_changed_label_is_wrong(share: float, seed: int) -> None:
    labels = _balanced(5, 40)
    indices = torch.arange(0, 200, 2)
    visible = noisy_labels(labels, indices, share, 5, seed)
    assert torch.equal(visible.indices, indices)
    wrong = int((visible.told != labels[indices]).sum())
    assert wrong == int(share * 100 + 0.5)
    assert visible.told.min() >= 0
    assert visible.told.max() < 5
    assert labels.tolist() == _balanced(5, 40).tolist()


def test_wrong_classes_and_places_are_uniform() -> None:
    labels = _balanced(4, 25)
    indices = torch.arange(100)
    confusion, places = torch.zeros(4, 4), torch.zeros(100)
    for seed in range(600):
        told = noisy_labels(labels, indices, 0.3, 4, seed).told
        confusion.view(-1).index_add_(0, labels * 4 + told, torch.ones(100))
        places += told != labels
    others = confusion[~torch.eye(4, dtype=torch.bool)]
    assert chisquare(others.numpy()).pvalue > 1e-3
    assert (places - 180).abs().max() < 5 * math.sqrt(600 * 0.3 * 0.7)


def test_more_noise_changes_what_less_changes_and_more() -> None:
    labels = _balanced(5, 40)
    indices = torch.arange(200)
    little, much = (noisy_labels(labels, indices, share, 5, 7).told for share in (0.1, 0.4))
    changed = little != labels
    assert torch.equal(much[changed], little[changed])
    assert (much != labels).sum() == 80


def test_noise_that_cannot_be_is_refused() -> None:
    labels = torch.tensor([0, 1])
    with pytest.raises(UserError, match="1 class; there is no wrong label"):
        noisy_labels(torch.zeros(8, dtype=torch.int64), torch.arange(8), 0.5, 1, 0)
    with pytest.raises(UserError, match="leaves class '(cat|dog)' without a visible label"):
        noisy_labels(labels, torch.arange(2), 0.5, 2, 0, ("cat", "dog"))
