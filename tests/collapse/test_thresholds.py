from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.collapse.dynamics import force, simulate, step
from clop_det.collapse.points import mean_norms, random_points
from clop_det.collapse.sweeps import Size, class_labels, measured_threshold
from clop_det.collapse.thresholds import (
    collapse_learning_rate,
    pinned_learning_rate,
    simplex_learning_rate,
    smallest_weight,
)
from clop_det.losses import InfoNCE, orthonormal_prototypes
from tests.collapse.theory import simplex_points, uniform_learning_rate


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_measured_threshold_agrees_within_five_percent(temperature: float) -> None:
    ratios = [0.9, 0.95, 1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.1]
    measured = measured_threshold(temperature, ratios, [0, 1, 2], Size(50, 50)) * temperature
    assert measured == pytest.approx(temperature, rel=0.05)
    # The exact threshold of 50 points in 50 dimensions is met to the resolution.
    assert measured == pytest.approx(simplex_learning_rate(temperature, 50, 50), rel=0.01)


def test_a_mean_over_n_moves_the_threshold_to_n_t() -> None:
    """As the loss itself says (`Loss.critical_learning_rate`)."""
    start = random_points(50, 50, [0, 0])
    rates = InfoNCE(0.5).critical_learning_rate(50) * torch.tensor([0.9, 1.1])
    below, past = mean_norms(simulate(start, rates, 0.5, reduction="mean")).tolist()
    assert below < 1e-3
    assert past > 0.999


def worst_multiplier(points: Tensor, ratio: float, temperature: float) -> float:
    """Largest absolute eigenvalue of a step's derivative along the sphere at a fixed point, by autograd."""
    shape = (1, *points.shape)
    rate = torch.tensor(ratio * temperature, dtype=torch.float64)

    def update(flat: Tensor) -> Tensor:
        z = F.normalize(flat.view(shape), dim=2)
        return step(z, rate, "ambient", force(z, temperature)).flatten()

    torch.testing.assert_close(update(points.flatten()), points.flatten())
    derivative = torch.autograd.functional.jacobian(update, points.flatten())
    return float(torch.linalg.eigvals(derivative).abs().max())


@pytest.mark.parametrize(
    ("n", "d", "temperature"), [(5, 4, 1.0), (5, 5, 1.0), (8, 9, 0.3), (8, 7, 0.1), (12, 12, 0.1), (10, 9, 0.05)]
)
def test_the_simplex_turns_unstable_exactly_there(n: int, d: int, temperature: float) -> None:
    ratio = simplex_learning_rate(temperature, n, d) / temperature
    points = simplex_points(n, d)
    assert worst_multiplier(points, 0.999 * ratio, temperature) < 1 + 1e-6
    assert worst_multiplier(points, 1.001 * ratio, temperature) > 1 + 1e-4


@pytest.mark.parametrize(("n", "temperature"), [(5, 1.0), (20, 0.1), (64, 0.5)])
def test_the_all_equal_state_attracts_exactly_past_there(n: int, temperature: float) -> None:
    equal = F.normalize(torch.ones(1, 1, 6, dtype=torch.float64), dim=2).expand(1, n, 6)
    near = F.normalize(equal + 1e-6 * random_points(n, 6, [0], dtype=torch.float64), dim=2)
    threshold = collapse_learning_rate(temperature, n)

    def growth(ratio: float) -> float:
        after = simulate(near, ratio * threshold, temperature, steps=2)
        deviation = [z - z.mean(dim=1, keepdim=True) for z in (near, after)]
        return float(deviation[1].norm() / deviation[0].norm()) ** 0.5

    c = 2 * threshold / temperature
    for ratio in (0.9, 0.99, 1.01, 1.1, 2.0):
        expected = (1 + ratio * c / (n - 1)) / abs(1 - ratio * c)
        assert growth(ratio) == pytest.approx(expected, rel=1e-4)
        assert (growth(ratio) < 1) == (ratio > 1)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.2])
def test_a_uniform_sphere_turns_unstable_there(temperature: float) -> None:
    # 1500 points on a spiral stand for a density on the sphere (their own 1 / n shows at the lowest temperature); the
    # mean is displaced and one step is taken.
    n = 1500
    height = 1 - (2 * torch.arange(n, dtype=torch.float64) + 1) / n
    angle = torch.arange(n, dtype=torch.float64) * math.pi * (3 - math.sqrt(5))
    radius = (1 - height.square()).sqrt()
    z = torch.stack([radius * angle.cos(), radius * angle.sin(), height], dim=1)[None]
    shift = torch.tensor([3e-5, -5e-5, 2e-5], dtype=torch.float64)
    tangent = shift - (z @ shift)[..., None] * z
    rate = uniform_learning_rate(temperature, 3)
    moved = [simulate(F.normalize(z + s * tangent, dim=2), rate, temperature, steps=1).mean(dim=1) for s in (1, -1)]
    multiplier = (moved[0] - moved[1]) / (2 * tangent.mean(dim=1))
    torch.testing.assert_close(multiplier, torch.full_like(multiplier, -1), rtol=0, atol=0.03)


def test_all_agree_in_many_dimensions() -> None:
    for temperature in (0.1, 0.5, 1.0):
        assert uniform_learning_rate(temperature, 20_000) == pytest.approx(temperature, rel=2e-3)
        assert simplex_learning_rate(temperature, 20_000, 20_000) == pytest.approx(temperature, rel=2e-3)
        assert collapse_learning_rate(temperature, 20_000) == pytest.approx(temperature, rel=2e-4)


def linear_multiplier(ratio: float, temperature: float, fraction: float, weight: float) -> float:
    """Worst multiplier of the means of labelled and unlabelled points, n and d large: the 2 x 2 matrix of the docs."""
    c, kappa = 2 * ratio, ratio * temperature * weight / fraction
    labelled = [(1 - c * fraction) / (1 + kappa), -c * (1 - fraction) / (1 + kappa)]
    unlabelled = [-c * fraction, 1 - c * (1 - fraction)]
    return float(torch.linalg.eigvals(torch.tensor([labelled, unlabelled], dtype=torch.float64)).abs().max())


@pytest.mark.parametrize(("ratio", "temperature", "fraction"), [(1.5, 1.0, 0.5), (1.2, 0.5, 0.3), (1.1, 0.1, 0.9)])
def test_the_smallest_weight_is_where_the_mean_stops_growing(ratio: float, temperature: float, fraction: float) -> None:
    weight = smallest_weight(ratio * temperature, temperature, fraction)
    assert linear_multiplier(ratio, temperature, fraction, 1.01 * weight) < 1
    assert linear_multiplier(ratio, temperature, fraction, 0.99 * weight) > 1


def test_the_smallest_weight_in_simulation() -> None:
    """Half of 200 points labelled, eta = 1.3 T: the mean grows below the predicted weight and not above it."""
    weight = smallest_weight(1.3, 1.0, 0.5)
    prototypes = orthonormal_prototypes(10, 100, 0)
    labels = class_labels(200, 0.5, 10)
    start = random_points(200, 100, [0, 0])
    end = simulate(
        start, 1.3, 1.0, weight=torch.tensor([0.6, 1.6]) * weight, labels=labels, prototypes=prototypes, steps=300
    )
    below, above = mean_norms(end).tolist()
    assert below > 0.5
    assert above < 0.1


def test_limits_of_the_labelled_thresholds() -> None:
    assert pinned_learning_rate(0.5, 0.0) == 0.5
    assert pinned_learning_rate(0.5, 0.5) == 1.0
    assert pinned_learning_rate(0.5, 1.0) == math.inf
    assert smallest_weight(0.4, 0.5, 0.1) == 0
    assert smallest_weight(1.5, 1.0, 0.3) == math.inf
    assert smallest_weight(1.5, 1.0, 1.0) == pytest.approx(2 * 0.5 / 1.5)
    fractions = [smallest_weight(1.5, 1.0, f) for f in (0.34, 0.4, 0.6, 0.8, 1.0)]
    assert fractions == sorted(fractions, reverse=True)
    # At the pinned threshold the needed weight grows without bound.
    assert smallest_weight(0.999 * pinned_learning_rate(1.0, 0.5), 1.0, 0.5) > 400


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match=r"temperature=0\.0: must be a finite number above 0"):
        pinned_learning_rate(0.0, 0.5)
    with pytest.raises(ValueError, match="batch=2"):
        collapse_learning_rate(0.5, 2)
    with pytest.raises(ValueError, match="batch=9, dim=7"):
        simplex_learning_rate(0.5, 9, 7)
    with pytest.raises(ValueError, match=r"labelled_fraction=1\.5: must lie in 0\.\.1"):
        pinned_learning_rate(0.5, 1.5)
    with pytest.raises(ValueError, match="learning_rate=0"):
        smallest_weight(0, 0.5, 0.5)
