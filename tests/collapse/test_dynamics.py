from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.collapse.dynamics import RULES, force, simulate, step
from clop_det.collapse.points import effective_ranks, mean_norms, random_points
from clop_det.collapse.sweeps import class_labels
from clop_det.losses import CLOP, InfoNCE, orthonormal_prototypes


def repulsion_by_loops(points: Tensor, temperature: float) -> Tensor:
    """sum_i log sum_{a != i} exp(z_i . z_a / T) of (n, d) free vectors, from the definition."""
    total = points.new_zeros(())
    for i in range(len(points)):
        terms = [(points[i] @ points[a] / temperature).exp() for a in range(len(points)) if a != i]
        total = total + torch.stack(terms).sum().log()
    return total


def test_the_force_is_the_gradient_of_the_repulsion() -> None:
    points = random_points(7, 4, [0, 1], dtype=torch.float64)
    got = force(points, torch.tensor([0.3, 0.8], dtype=torch.float64))
    for run, temperature in enumerate((0.3, 0.8)):
        free = points[run].clone().requires_grad_()
        (expected,) = torch.autograd.grad(repulsion_by_loops(free, temperature), free)
        torch.testing.assert_close(got[run], expected)


def test_tangent_part_with_attraction_and_pull_is_the_gradient_of_clop() -> None:
    n, d, classes, weight = 12, 6, 3, 0.7
    points = random_points(n, d, [4], dtype=torch.float64)
    prototypes = orthonormal_prototypes(classes, d, 0).double()
    labels = torch.tensor([0, 1, 2, -1, -1, 1])
    loss = CLOP(InfoNCE(0.4), prototypes, weight).double()
    free = points[0].clone().requires_grad_()
    (expected,) = torch.autograd.grad(n * loss(free, labels), free)  # the sum is n times the mean
    ambient = force(points, 0.4, attraction=True, weight=weight, labels=labels.repeat(2), prototypes=prototypes)[0]
    tangent = ambient - (ambient * points[0]).sum(dim=1, keepdim=True) * points[0]
    torch.testing.assert_close(tangent, expected)


def test_the_free_rule_is_autograd_through_normalisation() -> None:
    start = random_points(8, 5, [0], dtype=torch.float64)
    parameters = (1.7 * start[0]).requires_grad_()
    weights = start * 1.7
    for _ in range(3):
        (gradient,) = torch.autograd.grad(repulsion_by_loops(F.normalize(parameters, dim=1), 0.5), parameters)
        parameters = (parameters - 0.6 * gradient).detach().requires_grad_()
        weights = step(weights, torch.tensor(0.6), "free", force(F.normalize(weights, dim=2), 0.5))
        torch.testing.assert_close(weights[0], parameters.detach())


def test_ambient_and_tangent_steps_by_hand() -> None:
    z, g = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[1.0, 2.0]]])
    rate = torch.tensor(0.5)
    torch.testing.assert_close(step(z, rate, "ambient", g), F.normalize(torch.tensor([[[0.5, -1.0]]]), dim=2))
    torch.testing.assert_close(step(z, rate, "tangent", g), F.normalize(torch.tensor([[[1.0, -1.0]]]), dim=2))
    torch.testing.assert_close(step(3 * z, rate, "free", g), torch.tensor([[[3.0, -1 / 3]]]))


def test_the_reference_table() -> None:
    """Figure 1 of the paper: 50 random points in R^50, 500 full-batch steps, sum-reduced repulsion."""

    def ranks(rule: str, temperature: float, *ratios: float) -> list[list[float]]:
        rates = torch.tensor(ratios).repeat_interleave(2) * temperature
        end = simulate(random_points(50, 50, [0, 1] * len(ratios)), rates, temperature, rule=rule)
        means = mean_norms(end)
        assert bool(((effective_ranks(end) > 1.01) | (means > 0.999)).all())
        return effective_ranks(end).view(-1, 2).tolist()

    for temperature in (1.0, 0.5):
        kept, at, past = ranks("ambient", temperature, 0.9, 1.0, 1.05)
        assert kept == [pytest.approx(49, abs=0.1)] * 2
        assert at == [pytest.approx(49, abs=0.1)] * 2
        assert past == [pytest.approx(1, abs=0.05)] * 2
    table = ranks("ambient", 0.1, 0.9, 1.0, 1.05, 1.25, 1.5)
    for found, expected, tolerance in zip(table, (49, 42, 36, 15, 1), (0.1, 8, 4, 5, 0.05), strict=True):
        assert found == [pytest.approx(expected, abs=tolerance)] * 2
    for partial in ranks("tangent", 1.0, 1.05, 2.0, 3.0):
        assert 34 < min(partial) <= max(partial) < 50.1
    for free in ranks("free", 1.0, 1.0, 2.0, 10.0):
        assert free == [pytest.approx(49, abs=0.5)] * 2


def test_the_mean_contracts_below_the_threshold_and_fastest_at_half_of_it() -> None:
    start = random_points(400, 100, [0] * 3)
    after = mean_norms(simulate(start, torch.tensor([0.25, 0.5, 0.9]), 1.0, steps=1))
    before = float(mean_norms(start)[0])
    # mu <- (1 - 2 eta / T) mu: to 0.5, 0 and -0.8 of its length, up to terms of order 1/d.
    assert after.tolist() == [pytest.approx(f * before, abs=0.03 * before) for f in (0.5, 0.0, 0.8)]


def test_with_merged_views_and_attraction_the_mean_never_grows() -> None:
    start = random_points(50, 50, [0, 0, 0], pairs=True)
    end = simulate(start, torch.tensor([1.0, 3.0, 10.0]) * 0.5, 0.5, attraction=True)
    assert float(mean_norms(end).max()) < 1e-3
    assert effective_ranks(end).tolist() == [pytest.approx(24, abs=0.1)] * 3


def test_clop_keeps_the_classes_apart_past_the_threshold() -> None:
    prototypes = orthonormal_prototypes(5, 20, 0)
    start = random_points(50, 20, [0, 0])
    labels = class_labels(50, 0.6, 5)
    end = simulate(start, 1.3, 1.0, weight=torch.tensor([0.0, 3.0]), labels=labels, prototypes=prototypes)
    ranks = effective_ranks(end).tolist()
    assert ranks[0] == pytest.approx(1, abs=0.05)
    assert ranks[1] > 5
    labelled = labels >= 0
    cosine = (end[1][labelled] * prototypes[labels[labelled]]).sum(dim=1)
    assert float(cosine.min()) > 0.9


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("attraction", [False, True])
def test_invariances(rule: str, attraction: bool) -> None:
    points = random_points(12, 6, [0], dtype=torch.float64)
    prototypes = orthonormal_prototypes(3, 6, 0).double()
    labels = torch.tensor([0, 1, 2, -1, -1, -1]).repeat(2)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    order = torch.randperm(6)
    order = torch.cat([order, order + 6])

    def run(points: Tensor, labels: Tensor, prototypes: Tensor, reduction: str = "sum", rate: float = 0.3) -> Tensor:
        return simulate(
            points, rate, 0.5, rule=rule, attraction=attraction, reduction=reduction, weight=0.5, labels=labels,
            prototypes=prototypes, steps=5,
        )  # fmt: skip

    plain = run(points, labels, prototypes)
    torch.testing.assert_close(run(points @ rotation, labels, prototypes @ rotation), plain @ rotation)
    torch.testing.assert_close(run(points[:, order], labels[order], prototypes), plain[:, order])
    torch.testing.assert_close(run(points.roll(6, dims=1), labels.roll(6), prototypes), plain.roll(6, dims=1))
    # A mean over n = 12 points takes 12 times the learning rate.
    torch.testing.assert_close(run(points, labels, prototypes, "mean", 12 * 0.3), plain)


def test_runs_in_a_batch_are_runs_alone() -> None:
    points = random_points(10, 6, [0, 1, 2], dtype=torch.float64)
    rates, temperatures = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.5, 1.0])
    weights = torch.tensor([0.0, 1.0, 2.0])
    labels = torch.stack([class_labels(10, f, 3) for f in (0.0, 0.5, 1.0)])
    prototypes = orthonormal_prototypes(3, 6, 0)
    together = simulate(points, rates, temperatures, weight=weights, labels=labels, prototypes=prototypes, steps=20)
    for run in range(3):
        alone = simulate(
            points[run : run + 1], rates[run], temperatures[run], weight=weights[run], labels=labels[run],
            prototypes=prototypes, steps=20,
        )  # fmt: skip
        torch.testing.assert_close(alone[0], together[run])


def test_recording_and_determinism() -> None:
    points = random_points(10, 4, [0])
    record = simulate(points, 0.4, 0.5, steps=7, every=3)
    assert record.shape == (3, 1, 10, 4)
    assert torch.equal(record[0], points)
    assert torch.equal(record[2], simulate(points, 0.4, 0.5, steps=6))
    assert torch.equal(simulate(points, 0.4, 0.5), simulate(points.clone(), 0.4, 0.5))
    torch.testing.assert_close(simulate(points, 0.4, 0.5, steps=0), points)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": torch.ones(4, 3)}, r"points: torch.float32 of shape \(4, 3\)"),
        ({"learning_rate": -0.1}, "learning_rate: lowest is -0.1; must be >= 0"),
        ({"learning_rate": torch.ones(3)}, "learning_rate: 3 values for 2 runs"),
        ({"temperature": 0.0}, "temperature: lowest is 0; must be > 0"),
        ({"temperature": math.nan}, "temperature: lowest is nan"),
        ({"weight": -1.0}, "weight: lowest is -1; must be >= 0"),
        ({"reduction": "max"}, "reduction='max': must be one of sum, mean"),
        ({"rule": "adam"}, "rule='adam': must be one of ambient, tangent, free"),
        ({"steps": -1}, "steps=-1"),
        ({"prototypes": None}, "prototypes=None"),
        ({"labels": torch.zeros(3).long()}, r"labels \(3,\), prototypes \(2, 4\): do not fit points \(2, 5, 4\)"),
        ({"labels": torch.full((5,), 2)}, "labels: highest is 2; must be below the 2 prototypes"),
        ({"attraction": True}, "points: 5 of them cannot be two views"),
    ],
)
def test_bad_input_is_named(changes: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        "points": random_points(5, 4, [0, 1]),
        "learning_rate": 0.1,
        "temperature": 0.5,
        "labels": torch.zeros(5).long(),
        "prototypes": torch.eye(2, 4),
        "steps": 1,
    }
    simulate(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        simulate(**{**good, **changes})  # type: ignore[arg-type]
