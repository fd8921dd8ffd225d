from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clop_det.commands.grid_curves import main
from clop_det.comparison.report.grid_curves import comparison_panels
from clop_det.comparison.results.summary import read_comparison
from clop_det.errors import UserError

RATE, SIZE = "SOLVER.BASE_LR", "SOLVER.IMS_PER_BATCH"
COLUMNS = ["knn_top1", "embedding_rankme"]


def write_run(root: Path, init: str, seed: int, grid: dict[str, Any], fraction: float | None = None, **metrics: float):  # type: ignore[no-untyped-def]
    folder = root / f"{init}{seed}{'_'.join(map(str, grid.values()))}"
    folder.mkdir(parents=True)
    facts = {"kind": "pretraining", "init": init, "seed": seed, "label_fraction": fraction, "pretrain_grid": grid}
    (folder / "results.json").write_text(json.dumps({**facts, "metrics": metrics}))


@pytest.fixture
def study(tmp_path: Path) -> Path:
    root = tmp_path / "sgd"
    write_run(root, "info_nce", 0, {RATE: 0.1}, knn_top1=0.3, embedding_rankme=40)
    write_run(root, "info_nce", 1, {RATE: 0.1}, knn_top1=0.2, embedding_rankme=30)
    write_run(root, "clop", 0, {RATE: 0.1}, 0.01, knn_top1=0.4, embedding_rankme=50)
    write_run(root, "clop", 0, {RATE: 10}, 0.01, knn_top1=0.1, embedding_rankme=2)
    write_run(root, "clop", 1, {RATE: 10}, 0.01, embedding_rankme=7)
    return root


def test_runs_become_curves_by_initialisation_and_labels(study: Path) -> None:
    panels = comparison_panels(read_comparison([study]), RATE, COLUMNS)
    assert list(panels) == [""]
    knn, rank = panels[""]
    assert knn == {"info_nce": {"0.1": [0.3, 0.2]}, "clop 1 % labels": {"0.1": [0.4], "10": [0.1]}}
    assert rank["clop 1 % labels"] == {"0.1": [50], "10": [2, 7]}


def test_settings_of_another_grid_key_are_not_averaged_but_panels(tmp_path: Path) -> None:
    write_run(tmp_path, "info_nce", 0, {RATE: 0.1, SIZE: 16}, knn_top1=0.2)
    write_run(tmp_path, "info_nce", 0, {RATE: 0.1, SIZE: 64}, knn_top1=0.3)
    panels = comparison_panels(read_comparison([tmp_path]), RATE, ["knn_top1"])
    assert panels == {
        ", ims_per_batch 16": [{"info_nce": {"0.1": [0.2]}}],
        ", ims_per_batch 64": [{"info_nce": {"0.1": [0.3]}}],
    }


def test_what_has_no_place_on_the_axis_is_left_out(study: Path) -> None:
    write_run(study, "random", 0, {}, knn_top1=0.2)
    assert "random" not in comparison_panels(read_comparison([study]), RATE, COLUMNS)[""][0]


@pytest.mark.parametrize(("key", "column"), [("SOLVER.MOMENTUM", "knn_top1"), (RATE, "nc1")])
def test_a_comparison_without_a_curve_is_named(study: Path, key: str, column: str) -> None:
    with pytest.raises(UserError, match=f"sgd has no finished run with a value of {key} and {column}"):
        comparison_panels(read_comparison([study]), key, [column])


def test_the_command_writes_both_pictures_and_the_same_twice(study: Path, tmp_path: Path) -> None:
    write_run(tmp_path / "lars", "clop", 0, {RATE: 3}, 0.01, knn_top1=0.4, embedding_rankme=9)
    for output in ("a", "b"):
        arguments = ["--metrics", *COLUMNS, "--output", str(tmp_path / output)]
        assert main([str(study), str(tmp_path / "lars"), *arguments]) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    text = (tmp_path / "a.svg").read_text()
    assert all(word in text for word in ("sgd", "lars", "info_nce", "clop", "learning rate", "RankMe of"))
