"""VICReg and Barlow Twins against lightly, loops from the papers, and closed forms."""

from __future__ import annotations

import lightly.loss
import pytest
import torch
from torch import Tensor

from clop_det.losses import BarlowTwins, Loss, VICReg
from tests.losses.helpers import assert_same, two_views, value_and_gradient

SIZES = [(2, 3), (7, 4), (33, 16)]


def unlabelled(embeddings: Tensor) -> Tensor:
    return torch.full((len(embeddings) // 2,), -1)


@pytest.mark.parametrize(("num_images", "dim"), SIZES)
def test_vicreg_equals_lightly(num_images: int, dim: int) -> None:
    embeddings = two_views(num_images, dim) / 6  # so that some dimensions spread less than 1 and some more
    oracle = lightly.loss.VICRegLoss(lambda_param=20.0, mu_param=10.0, nu_param=3.0)
    loss = VICReg(invariance=20.0, variance=10.0, covariance=3.0)
    assert_same(lambda e: loss(e, unlabelled(e)), lambda e: oracle(*e.chunk(2)), embeddings)


@pytest.mark.parametrize(("num_images", "dim"), SIZES)
def test_barlow_twins_equals_lightly(num_images: int, dim: int) -> None:
    oracle = lightly.loss.BarlowTwinsLoss(lambda_param=0.02)
    loss = BarlowTwins(redundancy=0.02)
    assert_same(lambda e: loss(e, unlabelled(e)), lambda e: oracle(*e.chunk(2)), two_views(num_images, dim))


def test_vicreg_equals_loops_from_the_paper() -> None:
    embeddings = two_views(5, 3) / 6
    images, dim = 5, 3
    first, second = embeddings[:5].tolist(), embeddings[5:].tolist()
    mse = sum((a - b) ** 2 for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))
    variance = covariance = 0.0
    for view in (first, second):
        means = [sum(row[j] for row in view) / images for j in range(dim)]
        products = [
            [sum((row[i] - means[i]) * (row[j] - means[j]) for row in view) / (images - 1) for j in range(dim)]
            for i in range(dim)
        ]
        variance += sum(max(0.0, 1 - (products[j][j] + 1e-4) ** 0.5) for j in range(dim)) / dim
        covariance += sum(products[i][j] ** 2 for i in range(dim) for j in range(dim) if i != j) / dim
    parts = VICReg().parts(embeddings, unlabelled(embeddings))
    assert parts["vicreg_invariance"].item() == pytest.approx(25 * mse / (images * dim), rel=1e-12)
    assert parts["vicreg_variance"].item() == pytest.approx(25 * variance / 2, rel=1e-12)
    assert parts["vicreg_covariance"].item() == pytest.approx(covariance, rel=1e-12)


def test_barlow_twins_equals_loops_from_the_paper() -> None:
    embeddings = two_views(6, 3)
    images, dim = 6, 3
    standard = []
    for view in (embeddings[:6], embeddings[6:]):
        columns = []
        for column in view.t().tolist():
            mean = sum(column) / images
            deviation = (sum((value - mean) ** 2 for value in column) / images + 1e-5) ** 0.5
            columns.append([(value - mean) / deviation for value in column])
        standard.append(columns)
    correlation = [
        [sum(a * b for a, b in zip(standard[0][i], standard[1][j], strict=True)) / images for j in range(dim)]
        for i in range(dim)
    ]
    on = sum((1 - correlation[i][i]) ** 2 for i in range(dim))
    off = sum(correlation[i][j] ** 2 for i in range(dim) for j in range(dim) if i != j)
    assert BarlowTwins(0.1)(embeddings, unlabelled(embeddings)).item() == pytest.approx(on + 0.1 * off, rel=1e-12)


def test_vicreg_of_equal_spread_uncorrelated_views_is_zero() -> None:
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    parts = VICReg().parts(corners.repeat(2, 1), unlabelled(corners.repeat(2, 1)))
    assert all(part.item() == pytest.approx(0, abs=1e-12) for part in parts.values())


def test_vicreg_of_collapsed_views_is_the_variance_term_alone() -> None:
    embeddings = torch.full((10, 4), 0.3, dtype=torch.float64)
    assert VICReg()(embeddings, unlabelled(embeddings)).item() == pytest.approx(25 * (1 - 0.01), rel=1e-9)


def test_barlow_twins_of_opposite_views() -> None:
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    opposite = torch.cat([corners, -corners])
    assert BarlowTwins()(opposite, unlabelled(opposite)).item() == pytest.approx(2 * 2**2, rel=1e-4)


@pytest.mark.parametrize("loss", [VICReg(), BarlowTwins()])
def test_views_may_swap_and_images_may_change_places(loss: Loss) -> None:
    embeddings = two_views(9, 4)
    labels = unlabelled(embeddings)
    value, gradient = value_and_gradient(lambda e: loss(e, labels), embeddings)
    swapped, swapped_gradient = value_and_gradient(lambda e: loss(e, labels), embeddings.roll(9, 0))
    torch.testing.assert_close(swapped, value, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(swapped_gradient, gradient.roll(9, 0), rtol=1e-11, atol=1e-12)
    order = torch.randperm(9)
    moved = loss(embeddings[torch.cat([order, order + 9])], labels)
    torch.testing.assert_close(moved, value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("loss", [VICReg(), BarlowTwins()])
def test_constant_embeddings_are_finite_and_one_image_is_refused(loss: Loss) -> None:
    constant = torch.zeros(6, 4)
    value, gradient = value_and_gradient(lambda e: loss(e, unlabelled(e)), constant)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()
    with pytest.raises(ValueError, match="1 images over all ranks; this loss is defined from 2 on"):
        loss(constant[:2], torch.tensor([-1]))


@pytest.mark.parametrize("argument", ["invariance", "variance", "covariance"])
def test_vicreg_refuses_a_negative_weight(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument}=-1.0: must be a finite number of at least 0"):
        VICReg(**{argument: -1.0})


def test_barlow_twins_refuses_a_negative_weight() -> None:
    with pytest.raises(ValueError, match=r"redundancy=-0.1: must be a finite number of at least 0"):
        BarlowTwins(-0.1)
