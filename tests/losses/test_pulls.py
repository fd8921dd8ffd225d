"""LOSS.CLOP.PULL: every pull is the loss of its own name, and the linear one is the pull that has always been."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from clop_det.losses import CLOP, InfoNCE, Loss, PrototypePull, build_loss, orthonormal_prototypes, random_unit
from clop_det.losses.prototype_scores import NONL, NTCE, DotRegression, PrototypeSoftmax
from tests.losses.helpers import assert_same, some_labels, two_views, value_and_gradient

N, D, K, T = 12, 16, 6, 0.3
LABELS = some_labels(N, K)
# The pull -> the loss of the same formula, whose oracles are in test_prototype_scores.py.
LOSSES: dict[str, Callable[[Tensor], Loss]] = {
    "squared": DotRegression,
    "softmax": lambda prototypes: PrototypeSoftmax(prototypes, T),
    "ntce": lambda prototypes: NTCE(prototypes, T),
    "nonl": lambda prototypes: NONL(prototypes, T),
}


@pytest.mark.parametrize("pull", LOSSES)
def test_a_pull_within_clop_is_the_loss_of_that_formula(pull: str) -> None:
    prototypes = orthonormal_prototypes(K, D, seed=5).double()
    base, other = InfoNCE(), LOSSES[pull](prototypes)
    clop = CLOP(base, PrototypePull(prototypes, pull=pull, temperature=T), weight=0.7)
    assert_same(
        lambda e: clop(e, LABELS), lambda e: base(e, LABELS) + 0.7 * other(e, LABELS), two_views(N, D), scale=10
    )
    assert set(clop.parts(two_views(N, D), LABELS)) == {"info_nce", "prototype_pull"}


def test_the_default_is_the_linear_pull() -> None:
    embeddings, prototypes = two_views(N, D, torch.float32), orthonormal_prototypes(K, D)
    default = build_loss("prototype_pull", {}, K, D)
    unit, labels = torch.nn.functional.normalize(embeddings, dim=1, eps=1e-6), LABELS.repeat(2)
    labelled = labels >= 0
    own = torch.nn.functional.normalize(prototypes, dim=1)[labels.clamp(min=0)]
    plain = ((1 - (unit * own).sum(1)) * labelled).sum() / labelled.sum()
    assert torch.equal(default(embeddings, LABELS), plain)
    named = build_loss("prototype_pull", {"prototype_pull": {"PULL": "linear", "PULL_TEMPERATURE": 9.0}}, K, D)
    assert torch.equal(named(embeddings, LABELS), plain)


@pytest.mark.parametrize("pull", LOSSES)
@pytest.mark.parametrize("learned", [False, True])
def test_without_a_label_it_is_exactly_zero_with_zero_gradients(pull: str, learned: bool) -> None:
    loss = PrototypePull(random_unit(K, D), pull=pull, learned=learned)
    value, gradient = value_and_gradient(lambda e: loss(e, torch.full((N,), -1)), two_views(N, D))
    assert float(value) == 0
    assert not bool(gradient.any())
    assert all(p.grad is not None and not p.grad.any() for p in loss.parameters())


def test_learned_prototypes_follow_the_softmax_pull() -> None:
    loss = PrototypePull(random_unit(K, D), pull="softmax", learned=True)
    before = loss(two_views(N, D, torch.float32), LABELS)
    before.backward()
    with torch.no_grad():
        loss.prototypes -= 0.1 * loss.prototypes.grad  # type: ignore[operator]
    assert loss(two_views(N, D, torch.float32), LABELS) < before


def test_a_pull_of_other_prototypes_than_the_base_is_refused_and_of_the_same_taken() -> None:
    base = build_loss("prototype_softmax", {}, K, D)
    CLOP(base, PrototypePull(orthonormal_prototypes(K, D), pull="ntce"))
    CLOP(base, PrototypePull(orthonormal_prototypes(K, D).double(), pull="ntce"))
    for other in (
        PrototypePull(orthonormal_prototypes(K, D, seed=1)),
        PrototypePull(orthonormal_prototypes(K, D), assignment="matched"),
        PrototypePull(orthonormal_prototypes(K, D, directions=2)),
    ):
        with pytest.raises(ValueError, match="holds other prototypes than the pull"):
            CLOP(base, other)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pull": "cubic"}, "pull='cubic': must be one of linear, squared, softmax, ntce, nonl"),
        ({"pull": "ntce", "similarity": "euclidean"}, "pull='ntce': defined for the cosine"),
        ({"pull": "nonl", "temperature": 0.0}, "temperature=0.0: must be a finite number above 0"),
    ],
)
def test_bad_input(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CLOP(InfoNCE(), PrototypePull(orthonormal_prototypes(K, D), **arguments))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pull='softmax': defined for .* one direction per class"):
        PrototypePull(orthonormal_prototypes(3, D, directions=2), pull="softmax")
