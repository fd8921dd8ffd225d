from __future__ import annotations

import pytest
import torch

from clop_det.collapse.dynamics import simulate
from clop_det.collapse.points import effective_ranks, mean_cosines, mean_norms, random_points
from clop_det.collapse.sweeps import (
    Scenario,
    Size,
    class_labels,
    learning_rate_sweep,
    measured_threshold,
    phase_diagram,
)
from clop_det.losses import orthonormal_prototypes

SMALL = Size(count=20, dim=16, classes=3, steps=15)


def test_class_labels() -> None:
    assert class_labels(8, 0.5, 3).tolist() == [0, 1, 2, 0, -1, -1, -1, -1]
    assert class_labels(4, 0.0, 3).tolist() == [-1] * 4
    assert class_labels(4, 1.0, 3).tolist() == [0, 1, 2, 0]
    with pytest.raises(ValueError, match=r"fraction=1\.1"):
        class_labels(4, 1.1, 3)


@pytest.mark.parametrize("elements", [1 << 18, 1])
def test_each_row_is_its_own_simulation(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clop_det.collapse.sweeps._BATCH_ELEMENTS", elements)
    scenarios = [Scenario(), Scenario("tangent", True), Scenario(labelled_fraction=0.5, weight=2.0)]
    rows = learning_rate_sweep(scenarios, [0.5, 1.5], [1.0, 0.2], [7, 9], SMALL)
    assert len(rows) == len({(r.scenario, r.ratio, r.temperature, r.seed) for r in rows}) == 3 * 2 * 2 * 2
    for row in rows:
        end = simulate(
            random_points(20, 16, [row.seed]),
            row.ratio * row.temperature,
            row.temperature,
            rule=row.scenario.rule,
            attraction=row.scenario.attraction,
            weight=row.scenario.weight,
            labels=class_labels(20, row.scenario.labelled_fraction, 3),
            prototypes=orthonormal_prototypes(3, 16, 0),
            steps=15,
        )
        assert row.effective_rank == pytest.approx(float(effective_ranks(end)), rel=1e-3)
        assert row.mean_norm == pytest.approx(float(mean_norms(end)), abs=1e-3)
        assert row.mean_cosine == pytest.approx(float(mean_cosines(end)), abs=1e-3)


def test_twice_is_identical() -> None:
    arguments = ([Scenario(labelled_fraction=0.3, weight=1.0)], [0.8, 1.2], [0.5], [0, 1], SMALL)
    assert learning_rate_sweep(*arguments) == learning_rate_sweep(*arguments)


def test_the_phase_diagram_is_ordered_by_fraction_and_weight() -> None:
    ranks = phase_diagram([0.2, 1.0], [0.0, 0.5, 5.0], 1.5, 1.0, SMALL, seeds=[0, 1])
    assert ranks.shape == (2, 3)
    rows = learning_rate_sweep([Scenario(labelled_fraction=1.0, weight=0.5)], [1.5], [1.0], [0, 1], SMALL)
    assert float(ranks[1, 1]) == pytest.approx(sum(r.effective_rank for r in rows) / 2, rel=1e-3)
    torch.testing.assert_close(ranks[0, 0], ranks[1, 0], rtol=1e-3, atol=0)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="each needs one value or more"):
        learning_rate_sweep([], [1.0], [1.0], [0], SMALL)
    with pytest.raises(ValueError, match=r"ratios=0\.5\.\.0\.6: must bracket the threshold"):
        measured_threshold(1.0, [0.5, 0.6], [0], SMALL)
