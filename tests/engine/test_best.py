"""The best checkpoint follows the direction of its figure."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest

import clop_det.detection.average_precision  # noqa: F401  (registers AP)
from clop_det.engine.best import BestCheckpoint
from clop_det.figures import CATALOGUE, LOWER, Figure


@pytest.fixture
def lower(monkeypatch: pytest.MonkeyPatch) -> str:
    name = "figure_of_a_test"
    monkeypatch.setitem(CATALOGUE._figures, name, Figure(name, name, 1, better=LOWER))
    return f"probe/{name}"


def saved(figure: str, values: list[dict[str, float]]) -> list[int]:
    """Iterations that were saved, where step i gives the figures `values[i]`."""
    trainer: Any = SimpleNamespace(iter=0)
    kept: list[int] = []
    hook = BestCheckpoint(lambda name, iteration: kept.append(iteration), lambda: values[trainer.iter], figure)
    hook.trainer = trainer
    for trainer.iter in range(len(values)):
        hook.after_step()
    assert hook.best == values[kept[-1]][figure]
    return kept


def test_the_highest_or_the_lowest_is_the_best(lower: str) -> None:
    assert saved("bbox/AP", [{"bbox/AP": value} for value in (2.0, 1.0, 3.0, 3.0)]) == [0, 2]
    assert saved(lower, [{lower: value} for value in (2.0, 1.0, 3.0, 1.0)]) == [0, 1]


def test_a_step_without_the_figure_is_warned_of_one_without_evaluation_is_not(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "clop_det"):
        assert saved("bbox/APl", [{}, {"bbox/AP": 1.0}, {"bbox/APl": 1.0}]) == [2]
    assert [record.getMessage() for record in caplog.records] == [
        "no best checkpoint after 2 iterations: bbox/APl is not defined there"
    ]
