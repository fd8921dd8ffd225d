"""Grids: tuning on one test set and reporting on another, heat maps, curves."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from clop_det.comparison.report.figures import all_figures
from clop_det.comparison.results.rows import Row, Setting
from clop_det.comparison.results.summary import Comparison, read_comparison, summarise
from clop_det.comparison.results.tuning import choose
from tests.comparison.workplace import Workplace, detect_config


def row(init: str, grid: tuple[tuple[str, str], ...], seed: int, **metrics: float) -> Row:
    return Row(Setting(init, None, "d", (), grid), seed, "done", dict(metrics))


def test_the_best_setting_is_chosen_on_the_deciding_set_alone() -> None:
    small, large = (("SOLVER.BASE_LR", "0.1"),), (("SOLVER.BASE_LR", "0.2"),)
    rows = []
    for seed in (0, 1):
        rows += [row("a", small, seed, AP=10.0, **{"AP@val": 9.0}), row("a", large, seed, AP=99.0, **{"AP@val": 8.0})]
        rows += [row("b", small, seed, AP=20.0, **{"AP@val": 1.0}), row("b", large, seed, AP=21.0, **{"AP@val": 2.0})]
    kept, choices = choose(rows, {"d": ["val", "test"]})
    assert [(r.setting.init, r.seed, r.metrics["AP"]) for r in kept] == [
        ("a", 0, 10.0),
        ("a", 1, 10.0),
        ("b", 0, 21.0),
        ("b", 1, 21.0),
    ]
    assert all(r.setting.detection_grid == () for r in kept)
    assert [choice.chosen for choice in choices] == ["base_lr 0.1", "base_lr 0.2"]
    assert "9.0" in choices[0].sentence
    assert "8.0" in choices[0].sentence
    by_init = {summary.setting.init: summary for summary in summarise(kept, "a", "AP")}
    assert by_init["b"].difference is not None
    assert by_init["b"].difference.interval.mean == pytest.approx(11.0)


def test_a_setting_whose_runs_failed_is_not_chosen_by_the_one_that_is_left() -> None:
    small, large = (("SOLVER.BASE_LR", "0.02"),), (("SOLVER.BASE_LR", "0.04"),)
    rows = [row("a", small, seed, AP=20.0, **{"AP@val": 30.0}) for seed in (0, 1, 2)]
    rows += [row("a", large, 0, AP=25.0, **{"AP@val": 32.0}), row("a", large, 1), row("a", large, 2)]
    kept, (choice,) = choose(rows, {"d": ["val", "test"]})
    assert choice.chosen == "base_lr 0.02"
    assert [r.metrics["AP"] for r in kept] == [20.0] * 3
    assert "base_lr 0.04: 32.0 (1 of 3 seeds)" in choice.sentence


def test_values_of_a_grid_may_be_lists(workplace: Workplace) -> None:
    grid = {"SOLVER.STEPS": [[3, 5], [4]], "MODEL.FPN.NORM": ["", "BN"]}
    workplace.write({"DETECTION": [{"NAME": "scenes", "CONFIG": "detect.yaml", "GRID": grid}]})
    assert workplace.run() == 0
    found = read_comparison([workplace.output])
    assert found.complete
    assert {(s.setting.init, dict(s.setting.detection_grid)["SOLVER.STEPS"]) for s in found.summaries} == {
        (init, steps) for init in ("random", "clop") for steps in ("3x5", "4")
    }
    assert len(found.summaries) == len(found.rows) == 8
    assert sum(s.difference is not None for s in found.summaries) == 4


def test_nothing_is_chosen_without_being_asked() -> None:
    rows = [row("a", (("X", "1"),), 0, AP=1.0), row("a", (("X", "2"),), 0, AP=2.0)]
    assert choose(rows, {}) == (rows, [])


def test_tuning_from_yaml_to_report(workplace: Workplace) -> None:
    (workplace.folder / "detect.yaml").write_text(detect_config(4, ("val", "test")))
    grid = {"SOLVER.BASE_LR": [0.01, 0.02, 0.04]}
    select = {"BY": "val", "REPORT": "test"}
    workplace.write(
        {"DETECTION": [{"NAME": "d", "CONFIG": "detect.yaml", "GRID": grid, "SELECT": select}], "EXAMPLES": 0}
    )
    assert workplace.run("--jobs", "4") == 0
    comparison = read_comparison([workplace.output])
    assert [choice.chosen for choice in comparison.choices] == ["base_lr 0.02"] * 2
    assert len(comparison.summaries) == 2
    for summary in comparison.summaries:
        (kept,) = summary.rows
        assert kept.metrics["AP"] == pytest.approx(kept.metrics["AP@val"] + 2.0)  # 0.02: +2 on test, 0 on val
        assert any("bbox/AP" in entry for entry in kept.history)
    table = list(csv.DictReader((workplace.output / "report" / "results.csv").open()))
    assert len(table) == 6  # what was tried is not hidden
    assert {line["SOLVER.BASE_LR"] for line in table} == {"0.01", "0.02", "0.04"}
    page = (workplace.output / "report" / "report.html").read_text()
    assert "chosen by AP on val" in page


def grid_comparison(tmp_path: Path, grid: dict[str, list[float]], workplace: Workplace) -> Comparison:
    pretrain = {"CONFIG": "pretrain.yaml", "GRID": grid}
    workplace.write({"INITS": ["info_nce", "clop"], "BASELINE": "info_nce", "DETECTION": [], "PRETRAIN": pretrain})
    assert workplace.run("--jobs", "4") == 0
    return read_comparison([workplace.output])


def test_two_settings_make_heat_maps(workplace: Workplace, tmp_path: Path) -> None:
    comparison = grid_comparison(tmp_path, {"SOLVER.BASE_LR": [0.1, 0.2], "SOLVER.IMS_PER_BATCH": [8, 16]}, workplace)
    assert comparison.metric == "knn_top1"  # no detection: the verdict is about the probe
    pictures = {picture.name: picture for picture in all_figures(comparison)}
    maps = pictures["knn_top1_over_grid_pretraining_0.1"]
    assert "learning rate and batch size" in maps.title
    for text in ("info_nce", "clop", "0.2", "16"):
        assert f">{text}<" in maps.svg
    assert "rankme_over_grid_pretraining_0.1" in pictures
    # A cell's colour and its number light up with the line of its setting.
    assert sorted(re.findall(r'data-row="(\d+)"', maps.svg)) == sorted(2 * [str(row) for row in range(8)])
    # Differences are taken at the same learning rate and batch size.
    clop = [summary for summary in comparison.summaries if summary.setting.init == "clop"]
    assert len(clop) == 4
    assert all(s.against is not None and s.against.pretrain_grid == s.setting.pretrain_grid for s in clop)


def test_one_setting_makes_a_curve(workplace: Workplace, tmp_path: Path) -> None:
    comparison = grid_comparison(tmp_path, {"SOLVER.BASE_LR": [0.1, 0.2, 1.6]}, workplace)
    pictures = {picture.name: picture for picture in all_figures(comparison)}
    curve = pictures["knn_top1_over_grid_pretraining_0.1"].svg
    # The dots of a setting light up with its line in the tables, the curve with each of its settings.
    assert set(re.findall(r'data-row="([\d ]+)"', curve)) == {*"012345", "0 1 2", "3 4 5"}
