"""Rows from run folders: whole, partial, damaged, of several comparisons."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from clop_det.commands.compare import main
from clop_det.comparison.results.runs import Cost, Run, find_runs
from clop_det.comparison.results.summary import Comparison, read_comparison
from clop_det.errors import UserError
from tests.comparison.workplace import REPORT, Workplace, detect_config, lines


def test_rows_hold_the_figures_of_their_runs(comparison: Comparison, finished: Workplace) -> None:
    assert len(comparison.rows) == 3 * (2 + 2 * 2)
    assert comparison.complete
    for row in comparison.rows:
        results = json.loads((row.folders["detect"] / "results.json").read_text())["metrics"]
        first = json.loads((row.folders["detect"] / "metrics.json").read_text().splitlines()[0])
        assert row.metrics["AP"] == results["bbox/AP"]
        assert row.metrics["knn_top1"] == first["probe/knn_top1"]
        assert row.metrics["linear_top1_finetuned"] == results["probe/linear_top1"]


def test_cost_on_gpus_counts_gpus(tmp_path: Path) -> None:
    results = {"provenance": {"device": "cuda (A card)"}}
    attempts = [{"seconds": 10.0, "gpus": 8, "cores": 64}, {"seconds": 5.0, "gpus": 4, "cores": 64}, {"gpus": 8}]
    cost = Run(tmp_path, "detect", {"attempts": attempts}, results).cost
    assert cost == Cost(100.0, "GPU-seconds")
    assert Run(tmp_path, "detect", {"attempts": [{"seconds": 1.0}]}, results).cost is None


def test_report_is_rebuilt_from_run_folders_alone(finished: Workplace, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(finished.output / "jobs", moved)
    assert main(["report", str(moved), "--output", str(tmp_path / "report"), "--baseline", "random"]) == 0
    rebuilt = lines((tmp_path / "report" / "results.csv").read_text())
    original = lines((finished.output / REPORT / "results.csv").read_text())
    key = ("init", "label_fraction", "seed")
    assert sorted(rebuilt, key=lambda row: [row[k] for k in key]) == sorted(
        original, key=lambda row: [row[k] for k in key]
    )


def test_partial_folders_are_reported_with_what_is_missing(finished: Workplace, tmp_path: Path) -> None:
    part = tmp_path / "part"
    shutil.copytree(finished.output, part)
    gone = next((part / "jobs").glob("detect-scenes-clop-10pct-s1-*"))
    shutil.rmtree(gone)
    halfway = next((part / "jobs").glob("detect-scenes-supcon-10pct-s1-*"))
    (halfway / "results.json").unlink()
    (halfway / "metrics.json").write_text((halfway / "metrics.json").read_text()[:-7])  # torn last line
    assert main(["report", str(part)]) == 0
    status = {
        (row["init"], row["label_fraction"], row["seed"]): row
        for row in lines((part / REPORT / "results.csv").read_text())
    }
    assert status["supcon", "0.1", "1"]["status"] == "partial"
    assert status["clop", "0.1", "1"]["status"] == "partial"
    assert status["clop", "0.1", "1"]["AP"] == ""
    assert status["clop", "0.1", "0"]["status"] == "done"
    page = (part / REPORT / "report.html").read_text()
    assert "Not complete" in page
    assert "clop, 10 % labels, scenes, seed 1: begun, not finished" in page
    assert "2 of 3" in page


def test_runs_outside_a_comparison_are_reported_too(tmp_path: Path) -> None:
    for seed, ap in ((0, 10.0), (1, 12.0)):
        for init, gain in (("random", 0.0), ("moco", 5.0)):
            folder = tmp_path / f"{init}{seed}"
            folder.mkdir()
            content = {"kind": "detection", "init": init, "label_fraction": None, "seed": seed}
            (folder / "results.json").write_text(
                json.dumps({**content, "metrics": {"bbox/AP": ap + gain + 0.1 * seed * gain}})
            )
    comparison = read_comparison([tmp_path])
    assert comparison.baseline == "random"
    moco = next(summary for summary in comparison.summaries if summary.setting.init == "moco")
    assert moco.difference is not None
    assert moco.difference.interval.mean == pytest.approx(5.25)


def test_runs_of_an_earlier_matrix_are_not_mixed_in(workplace: Workplace) -> None:
    assert workplace.run() == 0
    (workplace.folder / "detect.yaml").write_text(detect_config(9))
    assert workplace.run() == 0
    comparison = read_comparison([workplace.output])
    assert len(comparison.rows) == 2
    assert all(len(summary.rows) == 1 for summary in comparison.summaries)
    assert "4 jobs here are not part of the matrix" in comparison.remarks[0]
    assert "not part of the matrix" in (workplace.output / REPORT / "report.html").read_text()
    # Without the plan nothing says which is meant: the newest counts, and the report says so.
    (workplace.output / "plan.json").unlink()
    comparison = read_comparison([workplace.output])
    assert len(comparison.rows) == 2
    assert sum("same setting and seed" in remark for remark in comparison.remarks) == 2


def test_two_plans_with_one_setting_and_seed_are_one_repetition(tmp_path: Path, workplace: Workplace) -> None:
    assert workplace.run() == 0
    first = tmp_path / "a"
    workplace.output.rename(first)
    (workplace.folder / "detect.yaml").write_text(detect_config(9))
    assert workplace.run() == 0
    comparison = read_comparison([first, workplace.output])
    assert [(summary.setting.init, len(summary.rows)) for summary in comparison.summaries] == [
        ("random", 1),
        ("clop", 1),
    ]
    assert sum("same setting and seed" in remark for remark in comparison.remarks) == 2


def test_a_metric_that_no_run_has_is_named(finished: Workplace, workplace: Workplace) -> None:
    with pytest.raises(UserError, match='no run has a figure "Ap50";.*Did you mean AP50'):
        read_comparison([finished.output], metric="Ap50")
    workplace.write({"METRIC": "Ap50"})
    assert workplace.run() == 0
    assert 'no run has a figure "Ap50"' in read_comparison([workplace.output]).remarks[0]


def test_bad_folders_and_baselines(tmp_path: Path, finished: Workplace) -> None:
    with pytest.raises(UserError, match="no folder"):
        read_comparison([tmp_path / "none"])
    with pytest.raises(UserError, match="no runs"):
        read_comparison([tmp_path])
    with pytest.raises(UserError, match='baseline "moco"'):
        read_comparison([finished.output], baseline="moco")


def test_damaged_files_do_not_stop_a_report(finished: Workplace, tmp_path: Path) -> None:
    shutil.copytree(finished.output, tmp_path / "out")
    jobs = tmp_path / "out" / "jobs"
    next(jobs.glob("detect-*random-s0*/")).joinpath("results.json").write_text('{"kind": "detec')
    next(jobs.glob("inspect-*random*/")).joinpath("examples.json").write_text("[]")
    next(jobs.glob("detect-*clop-10pct-s0*/")).joinpath("metrics.json").write_bytes(b'{"bbox/AP": 3}\n[1]\n\xff\n')
    lone = tmp_path / "out" / "lone"
    lone.mkdir()
    (lone / "config.yaml").write_bytes(b"NAME: \xe4\n")
    next(jobs.glob("inspect-*supcon-10pct*/")).joinpath("0.png").write_bytes(b"no image")
    assert main(["report", str(tmp_path / "out")]) == 0


def test_a_run_is_found_once(finished: Workplace) -> None:
    runs = find_runs([finished.output, finished.output / "jobs"])
    assert len(runs) == len(list((finished.output / "jobs").iterdir()))
