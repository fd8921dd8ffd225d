from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from clop_det.probes.measures.location import location_r2


def problem(rows: int, dim: int, noise: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    source = np.random.default_rng(seed)
    features = source.normal(size=(rows, dim)) + 2
    weights = np.random.default_rng(9).normal(size=(dim, 3))
    return torch.from_numpy(features), torch.from_numpy(features @ weights + noise * source.normal(size=(rows, 3)) - 1)


@pytest.mark.parametrize(("rows", "dim"), [(90, 10), (40, 60)])
def test_it_is_ridge_with_the_penalty_of_least_leave_one_out_error(rows: int, dim: int) -> None:
    (x, y), (asked, truth) = problem(rows, dim, 2.0, 0), problem(50, dim, 2.0, 1)
    largest = np.linalg.norm((x - x.mean(0)).numpy(), 2) ** 2
    model = RidgeCV(alphas=np.logspace(-8, 2, 41) * largest).fit(x.numpy(), y.numpy())
    error = (truth.numpy() - model.predict(asked.numpy())) ** 2
    total = (truth - y.mean(0)).numpy() ** 2
    assert location_r2(x, y, asked, truth) == pytest.approx(np.mean(1 - error.sum(0) / total.sum(0)), abs=1e-6)


def test_places_that_features_hold_are_found_and_others_not() -> None:
    (x, y), (asked, truth) = problem(200, 8, 0.0, 0), problem(80, 8, 0.0, 1)
    assert location_r2(x, y, asked, truth) == pytest.approx(1, abs=1e-6)
    others = torch.randn(80, 3, generator=torch.Generator().manual_seed(0))
    assert location_r2(x, torch.randn(200, 3, generator=torch.Generator().manual_seed(1)), asked, others) < 0.1


def test_equal_features_give_no_place() -> None:
    (_, y), (_, truth) = problem(30, 4, 1.0, 0), problem(20, 4, 1.0, 1)
    assert location_r2(torch.ones(30, 4), y, torch.ones(20, 4), truth) == pytest.approx(0, abs=1e-12)


def test_shapes_that_do_not_fit_and_targets_that_do_not_vary_are_refused() -> None:
    (x, y), (asked, truth) = problem(30, 4, 1.0, 0), problem(20, 4, 1.0, 1)
    with pytest.raises(ValueError, match="do not fit together"):
        location_r2(x, y[:5], asked, truth)
    with pytest.raises(ValueError, match="must vary"):
        location_r2(x, y, asked, torch.ones_like(truth))
