"""The sets of prototypes: the geometry each one promises."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clop_det.losses import (
    build_prototypes,
    coherence,
    low_coherence_frame,
    orthonormal_prototypes,
    random_unit,
    simplex_etf,
    welch_bound,
)
from clop_det.losses.prototypes import _orthonormal_rows

EXPECTED_ROWS = [
    [0.6501643455928563, -0.5268241371036537, -0.547487581854423],
    [-0.29969787990601654, -0.8399694198355834, 0.4523632992638905],
]


@settings(max_examples=40, deadline=None)
@given(classes=st.integers(1, 20), spare=st.integers(0, 20), seed=st.integers(0, 10**9))
def test_orthonormal_rows_are_orthonormal(classes: int, spare: int, seed: int) -> None:
    rows = orthonormal_prototypes(classes, classes + spare, seed)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows @ rows.t(), torch.eye(classes), atol=1e-6, rtol=0)


@settings(max_examples=40, deadline=None)
@given(classes=st.integers(2, 20), spare=st.integers(-1, 10), seed=st.integers(0, 10**9))
def test_simplex_has_all_its_vertices(classes: int, spare: int, seed: int) -> None:
    vertices = simplex_etf(classes, classes + spare, seed)
    expected = torch.full((classes, classes), -1 / (classes - 1)).fill_diagonal_(1)
    assert vertices.shape == (classes, classes + spare)
    torch.testing.assert_close(vertices @ vertices.t(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(vertices.sum(0), torch.zeros(classes + spare), atol=1e-5, rtol=0)


def test_several_directions_span_orthogonal_subspaces() -> None:
    rows = orthonormal_prototypes(4, 12, seed=3, directions=3)
    assert rows.shape == (4, 3, 12)
    torch.testing.assert_close(rows.flatten(0, 1) @ rows.flatten(0, 1).t(), torch.eye(12), atol=1e-6, rtol=0)


def test_the_draw_is_the_same_everywhere() -> None:
    # Written down once; a machine on which these differ would train on other prototypes.
    rows = _orthonormal_rows(2, 3, seed=0)
    expected = torch.tensor(EXPECTED_ROWS, dtype=torch.float64)
    torch.testing.assert_close(rows, expected, atol=1e-12, rtol=0)


def test_the_seed_alone_decides() -> None:
    for kind in ("orthonormal", "simplex_etf", "random_unit"):
        torch.manual_seed(1)
        first = build_prototypes(kind, 4, 8, seed=5)
        torch.manual_seed(2)
        assert torch.equal(first, build_prototypes(kind, 4, 8, seed=5))
        assert not torch.equal(first, build_prototypes(kind, 4, 8, seed=6))


def test_directions_are_uniform_on_the_sphere() -> None:
    # Mean 0 and covariance I / d, within five standard errors of 20,000 draws.
    dim, count = 4, 20_000
    draws = random_unit(count, dim, seed=1).double()
    assert draws.mean(0).abs().max() < 5 * math.sqrt(1 / dim / count)
    spread = draws.t() @ draws / count - torch.eye(dim, dtype=torch.float64) / dim
    assert spread.abs().max() < 5 * 0.25 / math.sqrt(count)
    # The sign fix is what makes the first row of a QR uniform: without it one coordinate has one sign.
    firsts = torch.stack([orthonormal_prototypes(2, 3, seed)[0] for seed in range(200)])
    assert ((firsts > 0).double().mean(0) - 0.5).abs().max() < 5 * 0.5 / math.sqrt(200)


@pytest.mark.parametrize(("classes", "dim"), [(3, 2), (6, 3), (5, 4), (10, 5), (16, 6), (28, 7)])
def test_the_frame_reaches_the_welch_bound_where_a_frame_does(classes: int, dim: int) -> None:
    frame = low_coherence_frame(classes, dim, seed=0)
    torch.testing.assert_close(frame.norm(dim=1), torch.ones(classes))
    assert welch_bound(classes, dim) - 1e-6 <= coherence(frame) < welch_bound(classes, dim) + 1e-3


def test_the_frame_is_far_better_than_chance_elsewhere_and_orthonormal_where_that_exists() -> None:
    frame = low_coherence_frame(40, 24, seed=0)
    assert welch_bound(40, 24) < coherence(frame) < 1.2 * welch_bound(40, 24) < coherence(random_unit(40, 24)) / 2
    assert coherence(low_coherence_frame(5, 5)) < 1e-6
    assert coherence(low_coherence_frame(3, 1)) == pytest.approx(1)


def test_coherence_and_welch_bound_by_hand() -> None:
    assert coherence(torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == 0
    assert coherence(torch.tensor([[1.0, 0.0], [-0.6, 0.8]])) == pytest.approx(0.6)
    assert coherence(torch.ones(1, 1)) == 0
    assert welch_bound(3, 2) == pytest.approx(0.5)
    assert welch_bound(2, 2) == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: orthonormal_prototypes(11, 10), r"num_classes=11, directions=1, dim=10: 11 .* into 10 dimensions"),
        (lambda: orthonormal_prototypes(4, 10, directions=3), r"num_classes=4, directions=3, dim=10: 12 .* into 10"),
        (lambda: orthonormal_prototypes(4, 10, directions=0), "directions=0: must be at least 1"),
        (lambda: orthonormal_prototypes(0, 10), "num_classes=0: must be at least 1"),
        (lambda: orthonormal_prototypes(4, 10, seed=-1), "seed=-1: must be at least 0"),
        (lambda: simplex_etf(1, 10), "num_classes=1: a simplex has at least 2 vertices"),
        (lambda: simplex_etf(12, 10), "num_classes=12, dim=10: the simplex of 12 vertices needs 11 dimensions"),
        (lambda: random_unit(3, 0), "dim=0: must be at least 1"),
        (lambda: low_coherence_frame(3, 0), "dim=0: must be at least 1"),
        (lambda: build_prototypes("simplex", 3, 4), "prototypes='simplex': must be one of orthonormal"),
        (lambda: build_prototypes("simplex_etf", 3, 9, directions=2), "directions=2: .* not 'simplex_etf'"),
        (lambda: build_prototypes("simplex_etf", 3, 9, directions=0), "directions=0: must be at least 1"),
    ],
)
def test_bad_input_names_argument_value_and_rule(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
