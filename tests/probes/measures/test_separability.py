from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import eigh

from clop_det.probes.measures.separability import h_score, lidar, transrate


def classes(rows: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(seed)
    labels = source.integers(0, 4, rows)
    return source.normal(size=(rows, dim)) + 2 * np.eye(4, dim)[labels], labels


def scores(function, features: np.ndarray, labels: np.ndarray, **options: bool | float) -> float:  # type: ignore[no-untyped-def]
    return float(function(torch.from_numpy(features), torch.from_numpy(labels), **options))


def class_means(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.stack([features[labels == label].mean(0) for label in labels])


def test_h_score_is_its_formula() -> None:
    features, labels = classes(200, 9)
    by_formula = np.trace(np.linalg.inv(np.cov(features.T)) @ np.cov(class_means(features, labels).T))
    assert scores(h_score, features, labels, shrunk=False) == pytest.approx(by_formula, rel=1e-10)


def test_the_shrunk_one_is_its_formula() -> None:
    """Ledoit and Wolf's own estimator of the shrinkage (2004, lemmas 3.2 to 3.4), written out."""
    features, labels = classes(40, 60)
    centred = features - features.mean(0)
    rows, dim = centred.shape
    sample = centred.T @ centred / rows
    mean = np.trace(sample) / dim
    distance = ((sample - mean * np.eye(dim)) ** 2).sum() / dim
    noise = sum(((np.outer(row, row) - sample) ** 2).sum() for row in centred) / rows**2 / dim
    amount = min(noise, distance) / distance
    shrunk = (1 - amount) * sample + amount * mean * np.eye(dim)
    means = class_means(centred, labels)
    by_formula = (1 - amount) * np.trace(np.linalg.inv(shrunk) @ (means.T @ means / rows))
    assert scores(h_score, features, labels) == pytest.approx(by_formula, rel=1e-8)


def test_without_noise_the_plain_score_counts_the_classes() -> None:
    features = np.eye(4)[np.arange(40) % 4]
    assert scores(h_score, features, np.arange(40) % 4, shrunk=False) == pytest.approx(3, abs=1e-9)


@pytest.mark.parametrize(("rows", "dim"), [(120, 7), (30, 50)])
def test_transrate_is_its_formula(rows: int, dim: int) -> None:
    features, labels = classes(rows, dim)

    def rate(part: np.ndarray) -> float:
        return float(np.linalg.slogdet(np.eye(dim) + part.T @ part / (len(part) * 1e-4))[1] / 2)

    centred = features - features.mean(0)
    by_formula = rate(centred) - np.mean([rate(centred[labels == k]) for k in range(4)])
    assert scores(transrate, features, labels) == pytest.approx(by_formula, rel=1e-9)


@pytest.mark.parametrize(("images", "dim"), [(50, 12), (20, 40)])
def test_lidar_is_the_effective_rank_of_the_generalised_eigenvalues(images: int, dim: int) -> None:
    source = np.random.default_rng(0)
    views = source.normal(size=(images, 1, dim)) * np.linspace(3, 0.1, dim) + source.normal(size=(images, 5, dim))
    means = views.mean(1)
    apart = (views - means[:, None]).reshape(-1, dim)
    within = apart.T @ apart / (images * 4) + 1e-4 * np.eye(dim)
    values = eigh(np.cov(means.T), within, eigvals_only=True).clip(0)
    share = values / values.sum() + 1e-7
    # Directions that no image spans have eigenvalue 0 and add 1e-7 log 1e-7 each where they are counted.
    share = np.sort(share)[::-1][: min(images, dim)]
    by_formula = math.exp(-(share * np.log(share)).sum())
    assert lidar(torch.from_numpy(views)) == pytest.approx(by_formula, rel=1e-6)


def test_lidar_of_images_that_agree_is_zero() -> None:
    views = torch.randn(1, 4, 6).expand(10, 4, 6)
    assert lidar(views) == 0


@pytest.mark.parametrize("shape", [(4, 1, 3), (1, 4, 3), (4, 3)])
def test_lidar_wants_several_views_of_several_images(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(N, q, D\)"):
        lidar(torch.randn(shape))


def test_a_precision_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="epsilon"):
        scores(transrate, *classes(20, 3), epsilon=0.0)
