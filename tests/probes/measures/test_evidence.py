from __future__ import annotations

import math

import pytest
import torch
from sklearn.linear_model import BayesianRidge

from clop_det.probes.measures.evidence import logme, logme_regression, tlogme


def problem(rows: int, dim: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features with classes and boxes that are partly linear in them."""
    source = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, dim, generator=source, dtype=torch.float64)
    noise = torch.randn(rows, 4, generator=source, dtype=torch.float64)
    labels = (features[:, :3] + 0.5 * noise[:, :3]).argmax(1)
    return features, labels, features[:, :4] * 3 + noise + 1


def by_sklearn(features: torch.Tensor, target: torch.Tensor) -> float:
    model = BayesianRidge(
        fit_intercept=False, alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, compute_score=True, tol=1e-12, max_iter=5000
    )
    model.fit(features.numpy(), target.numpy())
    return float(model.scores_[-1]) / len(features)


@pytest.mark.parametrize(("rows", "dim"), [(200, 12), (60, 30), (40, 90)])
def test_it_is_the_evidence_of_bayesian_ridge(rows: int, dim: int) -> None:
    features, labels, boxes = problem(rows, dim)
    one_hot = torch.nn.functional.one_hot(labels).double()
    of_labels = sum(by_sklearn(features, column) for column in one_hot.T) / one_hot.shape[1]
    of_boxes = sum(by_sklearn(features, column) for column in boxes.T) / 4
    assert logme(features, labels) == pytest.approx(of_labels, abs=1e-9)
    assert logme_regression(features, boxes) == pytest.approx(of_boxes, abs=1e-9)
    assert tlogme(features, labels, boxes) == pytest.approx((of_labels + of_boxes) / 2, abs=1e-9)


def test_it_is_the_largest_density_of_the_targets() -> None:
    """Against the Gaussian density itself, on a grid of both variances."""
    features, _, boxes = problem(25, 4)
    target, best = boxes[:, 0], -math.inf
    for log_a in torch.linspace(-6, 6, 97).tolist():
        covariance = torch.eye(25, dtype=torch.float64) + features @ features.T / math.exp(log_a)
        quadratic = float(target @ torch.linalg.solve(covariance, target))
        for log_b in torch.linspace(-4, 4, 161).tolist():
            density = (25 * (log_b - math.log(2 * math.pi)) - float(torch.logdet(covariance))) / 2
            best = max(best, density - math.exp(log_b) * quadratic / 2)
    found = logme_regression(features, target[:, None]) * 25
    assert best <= found + 1e-9
    assert found == pytest.approx(best, abs=0.02)


def test_features_that_tell_classes_score_higher() -> None:
    features, labels, _ = problem(300, 20)
    noise = torch.randn(300, 20, generator=torch.Generator().manual_seed(1))
    assert logme(features, labels) > logme(noise, labels) + 0.1


def test_a_rotation_and_gaps_between_labels_do_not_count() -> None:
    features, labels, _ = problem(80, 10)
    rotation = torch.linalg.qr(torch.randn(10, 10, dtype=torch.float64))[0]
    assert logme(features @ rotation, labels) == pytest.approx(logme(features, labels), abs=1e-10)
    assert logme(features, labels * 7) == pytest.approx(logme(features, labels), abs=1e-12)


def test_targets_of_another_length_are_refused() -> None:
    features, _, boxes = problem(20, 4)
    with pytest.raises(ValueError, match="must have 20 rows"):
        logme_regression(features, boxes[:5])
