from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from clop_det.collapse.points import random_points
from tests.collapse.curvature import largest_curvature, stable_learning_rate


@pytest.mark.parametrize("lowest", [-2.0, -20.0])
def test_a_quadratic_has_its_largest_eigenvalue(lowest: float) -> None:
    matrix = torch.diag(torch.tensor([7.0, lowest, 1.0, 0.5], dtype=torch.float64))
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    x, y = torch.zeros(1, requires_grad=True, dtype=torch.float64), torch.ones(3, requires_grad=True)

    def loss() -> torch.Tensor:
        whole = torch.cat([x, y.double()])
        return 0.5 * whole @ (turn @ matrix @ turn.T) @ whole

    assert largest_curvature(loss, [x, y], steps=60) == pytest.approx(7, rel=1e-4)
    assert torch.equal(y, torch.ones(3))
    assert torch.equal(x, torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_on_free_points_two_over_it_is_the_critical_learning_rate(temperature: float) -> None:
    points = random_points(100, 100, [0], dtype=torch.float64)[0].requires_grad_()

    def repulsion() -> torch.Tensor:
        logits = points @ points.T / temperature
        return (logits - torch.diag(torch.full((100,), torch.inf))).logsumexp(dim=1).sum()

    curvature = largest_curvature(repulsion, [points], steps=60)
    assert stable_learning_rate(curvature) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_descent_diverges_exactly_past_it(momentum: float) -> None:
    curvature = 3.0
    for factor, grows in ((0.98, False), (1.02, True)):
        x = torch.ones(1, requires_grad=True)
        optimizer = torch.optim.SGD([x], lr=factor * stable_learning_rate(curvature, momentum), momentum=momentum)
        for _ in range(600):
            optimizer.zero_grad()
            (0.5 * curvature * x.square()).sum().backward()
            optimizer.step()
        assert (not abs(float(x.detach())) < 1) is grows


def test_limits_and_bad_input() -> None:
    weight = torch.ones(2, requires_grad=True)
    assert largest_curvature(lambda: weight.sum() + 0 * weight.square().sum(), [weight]) == 0
    assert stable_learning_rate(0.0) == stable_learning_rate(-1.0) == math.inf
    with pytest.raises(ValueError, match="momentum=1"):
        stable_learning_rate(1.0, 1)
    with pytest.raises(ValueError, match="steps=0"):
        largest_curvature(lambda: F.softplus(weight).sum(), [weight], steps=0)
