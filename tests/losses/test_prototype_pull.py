"""The pull to the prototypes and CLOP over every base: closed forms, invariances, matching, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clop_det.losses import (
    CLOP,
    CrossEntropy,
    InfoNCE,
    PrototypePull,
    build_loss,
    loss_names,
    orthonormal_prototypes,
    random_unit,
)
from tests.losses.helpers import assert_same, some_labels, two_views, value_and_gradient

DIM = 6
ORTHONORMAL = orthonormal_prototypes(3, DIM, seed=0).double()
SUBSPACES = orthonormal_prototypes(3, DIM, seed=0, directions=2).double()
LABELS = torch.tensor([0, 1, 2, -1])
BASES = [name for name in loss_names() if name not in ("clop", "prototype_pull")]


@pytest.mark.parametrize(
    ("similarity", "at", "orthogonal", "antipodal"),
    [("cosine", 0, 1, 2), ("euclidean", 0, math.sqrt(2), 2)],
)
def test_closed_forms(similarity: str, at: float, orthogonal: float, antipodal: float) -> None:
    loss = PrototypePull(ORTHONORMAL, similarity)
    spread = 3.7 * ORTHONORMAL[[0, 1, 2, 0]]
    wrong = 0.2 * ORTHONORMAL[[1, 2, 0, 0]]
    for rows, expected in ((spread, at), (wrong, orthogonal), (-spread, antipodal)):
        value, gradient = value_and_gradient(lambda e: loss(e, LABELS), rows.repeat(2, 1))
        assert value.item() == pytest.approx(expected, abs=1e-7)
        assert torch.isfinite(gradient).all()


def test_manhattan_by_hand() -> None:
    loss = PrototypePull(torch.eye(2, 4, dtype=torch.float64), "manhattan")
    embeddings = torch.tensor([[3.0, 4.0, 0, 0], [0, -2.0, 0, 0]], dtype=torch.float64).repeat(2, 1)
    # (.6, .8) to (1, 0): .4 + .8; (0, -1) to (0, 1): 2
    assert loss(embeddings, torch.tensor([0, 1])).item() == pytest.approx((1.2 + 2) / 2, rel=1e-12)


def test_subspace_pull_is_the_share_outside_the_subspace() -> None:
    loss = PrototypePull(SUBSPACES)
    inside = SUBSPACES[0].sum(0)
    outside = SUBSPACES[1].sum(0)
    both = inside + outside
    for row, expected in ((inside, 0.0), (-inside, 0.0), (outside, 1.0), (both, 0.5)):
        assert loss(row.repeat(2, 1), torch.tensor([0])).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean", "manhattan"])
def test_equal_to_a_loop_over_the_labelled_views(similarity: str) -> None:
    loss = PrototypePull(ORTHONORMAL, similarity)
    labels = some_labels(13, 3)

    def by_loop(embeddings: torch.Tensor) -> torch.Tensor:
        distances = []
        for view, label in zip(embeddings, labels.repeat(2).tolist(), strict=True):
            if label >= 0:
                unit, own = view / view.norm(), ORTHONORMAL[label] / ORTHONORMAL[label].norm()
                order = {"euclidean": 2, "manhattan": 1}.get(similarity)
                distances.append(1 - unit @ own if order is None else torch.linalg.vector_norm(unit - own, ord=order))
        return torch.stack(distances).mean()

    assert_same(lambda e: loss(e, labels), by_loop, two_views(13, DIM))


@settings(max_examples=40, deadline=None)
@given(
    images=st.integers(1, 12),
    base=st.sampled_from(["info_nce", "supcon"]),
    directions=st.integers(1, 2),
    weight=st.floats(0, 10),
    seed=st.integers(0, 10**6),
)
def test_a_joint_rotation_of_embeddings_and_prototypes_does_not_count(
    images: int, base: str, directions: int, weight: float, seed: int
) -> None:
    torch.manual_seed(seed)
    rotation, _ = torch.linalg.qr(torch.randn(DIM, DIM, dtype=torch.float64))
    prototypes = ORTHONORMAL if directions == 1 else SUBSPACES
    embeddings, labels = two_views(images, DIM, seed=seed), some_labels(images, 3, seed)
    here = CLOP(build_loss(base, {}, 3, DIM), prototypes, weight)
    there = CLOP(build_loss(base, {}, 3, DIM), prototypes @ rotation, weight)
    assert_same(lambda e: here(e, labels), lambda e: there(e @ rotation, labels), embeddings, scale=1 + weight)


@pytest.mark.parametrize("base", BASES)
def test_clop_is_its_base_plus_the_weighted_pull(base: str) -> None:
    embeddings, labels = two_views(10, DIM), some_labels(10, 3)
    inner = build_loss(base, {}, 3, DIM)
    prototypes = getattr(inner, "prototypes", ORTHONORMAL)  # a base that holds prototypes wants the same ones
    pull = PrototypePull(prototypes)
    loss = CLOP(inner, prototypes, weight=0.3)
    assert_same(lambda e: loss(e, labels), lambda e: inner(e, labels) + 0.3 * pull(e, labels), embeddings, scale=10)
    parts = loss.parts(embeddings, labels)
    torch.testing.assert_close(sum(parts.values()), loss(embeddings, labels))
    assert set(parts) == {*inner.parts(embeddings, labels), "prototype_pull"}
    torch.testing.assert_close(parts["prototype_pull"], 0.3 * pull(embeddings, labels))


@pytest.mark.parametrize("similarity", ["cosine", "euclidean", "manhattan"])
@pytest.mark.parametrize("learned", [False, True])
def test_no_label_gives_exactly_zero_and_a_live_graph(similarity: str, learned: bool) -> None:
    loss = PrototypePull(ORTHONORMAL.float(), similarity, learned=learned)
    value, gradient = value_and_gradient(lambda e: loss(e, torch.full((4,), -1)), two_views(4, DIM))
    assert value.item() == 0
    assert not gradient.any()
    assert all(p.grad is not None and not p.grad.any() for p in loss.parameters())


@pytest.mark.parametrize("prototypes", [ORTHONORMAL.float(), SUBSPACES.float()])
def test_a_row_of_zeros_is_finite(prototypes: torch.Tensor) -> None:
    embeddings = two_views(4, DIM, torch.float32)
    embeddings[[0, 4]] = 0
    for similarity in ("cosine", "euclidean", "manhattan") if prototypes.dim() == 2 else ("cosine",):
        value, gradient = value_and_gradient(
            lambda e, s=similarity: PrototypePull(prototypes, s)(e, LABELS), embeddings
        )
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


def test_fixed_prototypes_are_a_saved_buffer_and_learned_ones_a_parameter() -> None:
    fixed, learned = PrototypePull(ORTHONORMAL.float()), PrototypePull(ORTHONORMAL.float(), learned=True)
    assert "prototypes" in fixed.state_dict()
    assert not list(fixed.parameters())
    assert [name for name, _ in learned.named_parameters()] == ["prototypes"]
    learned(two_views(4, DIM, torch.float32), LABELS).backward()
    assert learned.prototypes.grad is not None
    assert learned.prototypes.grad.abs().sum() > 0


def test_learned_prototypes_meet_their_class_under_gradient_descent() -> None:
    loss = PrototypePull(random_unit(2, 3, seed=1), learned=True)
    embeddings = torch.eye(2, 3).repeat(2, 1)
    optimizer = torch.optim.SGD(loss.parameters(), lr=2.0)
    for _ in range(50):
        optimizer.zero_grad()
        loss(embeddings, torch.tensor([0, 1])).backward()
        optimizer.step()
    assert loss(embeddings, torch.tensor([0, 1])).item() < 1e-3


@pytest.mark.parametrize("prototypes", [orthonormal_prototypes(5, 10), orthonormal_prototypes(5, 10, directions=2)])
def test_matching_finds_the_order_of_the_class_means_once_and_keeps_it(prototypes: torch.Tensor) -> None:
    loss = CLOP(InfoNCE(), PrototypePull(prototypes, assignment="matched"))
    assert loss.needs_matching
    order = torch.tensor([3, 0, 4, 1, 2])
    rows = prototypes if prototypes.dim() == 2 else prototypes.sum(1)
    means = rows[order] * torch.arange(1, 6)[:, None] + 0.1 * torch.randn(5, 10)
    loss.match_prototypes(means)
    torch.testing.assert_close(loss.pull.prototypes, prototypes[order])
    assert not loss.needs_matching
    loss.match_prototypes(means.flip(0))
    torch.testing.assert_close(loss.pull.prototypes, prototypes[order])
    resumed = CLOP(InfoNCE(), PrototypePull(prototypes, assignment="matched"))
    resumed.load_state_dict(loss.state_dict())
    assert not resumed.needs_matching
    assert torch.equal(resumed.pull.prototypes, loss.pull.prototypes)


def test_a_random_assignment_waits_for_nothing() -> None:
    assert not CLOP(InfoNCE(), ORTHONORMAL).needs_matching
    assert not InfoNCE().needs_matching
    with pytest.raises(ValueError, match="class_means: InfoNCE has no prototypes to match"):
        InfoNCE().match_prototypes(torch.zeros(3, DIM))


def test_the_coherence_is_reported_beside_its_bound() -> None:
    loss = build_loss("prototype_pull", {"prototype_pull": {"PROTOTYPES": "low_coherence_frame"}}, 6, 3)
    assert "coherence=0.4472 (Welch bound 0.4472)" in repr(loss)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PrototypePull(ORTHONORMAL, "dot"), "similarity='dot': must be one of cosine, euclidean, manhattan"),
        (lambda: PrototypePull(ORTHONORMAL, assignment="best"), "assignment='best': must be one of random, matched"),
        (lambda: PrototypePull(SUBSPACES, "euclidean"), "similarity='euclidean': several directions .* 'cosine' alone"),
        (lambda: PrototypePull(SUBSPACES, learned=True), "learned=True: several directions"),
        (lambda: PrototypePull(torch.zeros(2, 4)), "prototypes: holds NaN, infinite or zero rows"),
        (lambda: PrototypePull(torch.full((2, 4), math.nan)), "prototypes: holds NaN, infinite or zero rows"),
        (lambda: PrototypePull(torch.ones(4)), r"prototypes: torch.float32 of shape \(4,\); must be floats"),
        (lambda: PrototypePull(torch.ones(2, 2, 4)), "prototypes: directions of one class overlap by 1"),
        (lambda: CLOP(InfoNCE(), ORTHONORMAL, weight=-0.5), "weight=-0.5: must be a finite number of at least 0"),
        (lambda: CLOP(CLOP(InfoNCE(), ORTHONORMAL), ORTHONORMAL), "base=CLOP: already pulls to prototypes"),
        (lambda: CLOP(CrossEntropy(4, DIM), ORTHONORMAL), "prototypes: num_classes 3, but the base has 4"),
        (lambda: CLOP(CrossEntropy(3, 9), ORTHONORMAL), "prototypes: embedding_dim 6, but the base has 9"),
        (
            lambda: CLOP(InfoNCE(), ORTHONORMAL)(two_views(4, 5), LABELS),
            "embeddings: 5 dimensions; the prototypes or the classifier have 6",
        ),
        (
            lambda: CLOP(InfoNCE(), ORTHONORMAL)(two_views(4, DIM), torch.tensor([0, 1, 3, -1])),
            "labels: holds 3; must be below num_classes=3",
        ),
        (
            lambda: PrototypePull(ORTHONORMAL, assignment="matched").match_prototypes(torch.zeros(2, DIM)),
            r"class_means: shape \(2, 6\); must be finite, of shape \(3, 6\)",
        ),
    ],
)
def test_bad_input_names_argument_value_and_rule(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
