from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clop_det.losses import CLOP, InfoNCE, Loss, SupCon, orthonormal_prototypes
from tests.collapse.stationarity import equal_embeddings, pull_at_collapse, rank_one_embeddings, sphere_gradient

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, -1, -1])


def longest(loss: Loss, embeddings: Tensor, labels: Tensor = LABELS) -> float:
    return float(sphere_gradient(loss.double(), embeddings, labels).norm(dim=1).max())


@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("base", [InfoNCE, SupCon])
@pytest.mark.parametrize("collapsed", [equal_embeddings, rank_one_embeddings])
@pytest.mark.parametrize("seed", [0, 1])
def test_collapsed_embeddings_are_stationary(
    base: type[Loss], collapsed: object, temperature: float, seed: int
) -> None:
    embeddings = collapsed(8, 16, seed)  # type: ignore[operator]
    assert longest(base(temperature), embeddings) < 1e-10  # type: ignore[call-arg]


def test_they_are_collapsed_and_random_points_are_not_stationary() -> None:
    assert torch.linalg.matrix_rank(equal_embeddings(8, 16)) == 1
    line = rank_one_embeddings(8, 16)
    assert torch.linalg.matrix_rank(line) == 1
    assert len(line.unique(dim=0)) == 2
    random = torch.randn(16, 16, dtype=torch.float64)
    assert longest(InfoNCE(0.5), random) > 1e-3
    assert longest(SupCon(0.5), random) > 1e-3


def test_the_gradient_is_tangent() -> None:
    points = torch.nn.functional.normalize(torch.randn(16, 5, dtype=torch.float64), dim=1)
    gradient = sphere_gradient(InfoNCE(0.5).double(), 3 * points, LABELS)
    assert float((gradient * points).sum(dim=1).abs().max()) < 1e-15


@pytest.mark.parametrize("base", [InfoNCE, SupCon])
@pytest.mark.parametrize("collapsed", [equal_embeddings, rank_one_embeddings])
def test_clop_has_no_collapsed_stationary_point_with_two_labelled_classes(base: type[Loss], collapsed: object) -> None:
    prototypes = orthonormal_prototypes(3, 16, 0).double()
    loss = CLOP(base(0.5), prototypes, weight=0.7)  # type: ignore[call-arg]
    for seed in range(5):
        embeddings = collapsed(8, 16, seed)  # type: ignore[operator]
        lengths = sphere_gradient(loss.double(), embeddings, LABELS).norm(dim=1)
        # The pull alone is left: lambda / |S| times the part of the prototype across the line; |S| = 12 views.
        pulls = pull_at_collapse(prototypes, embeddings[0])
        expected = 0.7 / 12 * torch.cat([pulls[LABELS.clamp(min=0)] * (LABELS >= 0)] * 2)
        torch.testing.assert_close(lengths, expected, rtol=1e-6, atol=1e-9)
        # Bessel: the squares sum to at least K - 1 = 2, so the longest is at least sqrt(2 / 3).
        assert float(lengths.max()) > 0.7 / 12 * math.sqrt(2 / 3)


def test_one_labelled_class_can_still_collapse_onto_its_prototype() -> None:
    prototypes = orthonormal_prototypes(3, 16, 0).double()
    at_first = prototypes[:1].expand(16, 16)
    loss = CLOP(InfoNCE(0.5), prototypes)
    assert longest(loss, at_first, torch.tensor([0, 0, 0, -1, -1, -1, -1, -1])) < 1e-7
    assert longest(loss, at_first, torch.tensor([0, 0, 1, -1, -1, -1, -1, -1])) > 0.1


def test_without_labels_clop_collapses_as_its_base_does() -> None:
    loss = CLOP(InfoNCE(0.5), orthonormal_prototypes(3, 16, 0))
    assert longest(loss, equal_embeddings(8, 16), torch.full((8,), -1)) < 1e-10
