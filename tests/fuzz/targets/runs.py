"""What a run leaves behind: metrics, configs, folders given to `compare report`."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from clop_det.comparison.report import csv_files, tables
from clop_det.comparison.report.examples import galleries
from clop_det.comparison.report.html import render_page
from clop_det.comparison.report.writing import write_report
from clop_det.comparison.results.summary import read_comparison
from clop_det.config.reading import read_config
from clop_det.engine.metrics import drop_lines_from, read_metrics
from tests.fuzz.mutations import mutated_bytes, mutated_json, mutated_lines
from tests.fuzz.targets.target import Mutate, Target


def prepare_metrics(folder: Path) -> Target:
    lines = [{"iteration": k, "loss": 1 / (k + 1), "bbox/AP": 3.5, "probe/knn_top1": 0.25} for k in range(6)]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def read(_: Path) -> None:
        read_metrics(folder)
        drop_lines_from(folder / "metrics.json", 4)
        assert all(line["iteration"] < 4 for line in read_metrics(folder))

    return Target([("metrics.json", mutated_lines)], read)


def prepare_config(folder: Path) -> Target:
    (folder / "base.yaml").write_text("SOLVER: {BASE_LR: 0.1, STEPS: (3, 4)}\nLOSS: {NAME: clop}\n")
    (folder / "a.yaml").write_text("_BASE_: base.yaml\nSOLVER: &s\n  MAX_ITER: 12\nDATASETS: {TRAIN: [a]}\n")
    files = [("a.yaml", mutated_bytes), ("base.yaml", mutated_bytes)]
    return Target(files, lambda _: read_config(str(folder / "a.yaml"), []))


def prepare_runs(folder: Path) -> Target:
    """A comparison of two initialisations and two seeds, with an inspection, made by hand."""
    cells = []
    for init in ("random", "clop"):
        for seed in (0, 1):
            run = folder / "out" / "jobs" / f"detect-{init}-{seed}"
            look = folder / "out" / "jobs" / f"inspect-{init}-{seed}"
            _write_run(run, init, seed)
            _write_inspection(look, run.name)
            cells.append(
                {
                    **{"init": init, "label_fraction": 0.1 if init == "clop" else None, "seed": seed, "detection": "d"},
                    **{"pretrain_grid": {}, "detection_grid": {"SOLVER.BASE_LR": 0.1}, "pretrain": "", "convert": ""},
                    **{"detect": run.name, "inspect": look.name},
                }
            )
    plan = {"name": "n", "description": "d", "baseline": "random", "metric": "AP", "example_score": 0.5, "select": {}}
    (folder / "out" / "plan.json").write_text(json.dumps({**plan, "inits": ["random", "clop"], "cells": cells}))
    top = "out/jobs/detect-clop-0/"
    files: list[tuple[str, Mutate]] = [(f"{top}{name}.json", mutated_json) for name in ("job", "results")]
    files += [
        ("out/plan.json", mutated_json),
        (f"{top}metrics.json", mutated_lines),
        (f"{top}config.yaml", mutated_bytes),
    ]
    files += [(f"out/jobs/inspect-clop-0/{name}.json", mutated_json) for name in ("examples", "results", "job")]
    files += [("out/jobs/inspect-clop-0/0.png", mutated_bytes)]
    count = 0

    def read(_: Path) -> None:
        nonlocal count
        comparison = read_comparison([folder / "out"])
        tables.printed_table(comparison)
        tables.latex_table(comparison)
        csv_files.results_csv(comparison)
        csv_files.differences_csv(comparison)
        render_page(comparison, [], galleries(comparison))
        count += 1
        if count % 100 == 0:  # pictures take a hundred times as long
            write_report(comparison, folder / "report")
            assert sorted(path.name for path in folder.iterdir()) == ["out", "report"], "written outside"

    return Target(files, read)


def _write_run(run: Path, init: str, seed: int) -> None:
    run.mkdir(parents=True)
    facts = {"init": init, "loss": init, "label_fraction": None, "seed": seed, "detection": "d", "pretrain_grid": {}}
    attempt = {"seconds": 3.0, "exit_code": 0, "reason": "", "cores": 2, "stopped": False}
    job = {
        "kind": "detect",
        "name": run.name,
        "digest": "abc",
        **facts,
        "attempts": [attempt],
        "values": {"SEED": seed},
    }
    (run / "job.json").write_text(json.dumps({**job, "detection_grid": {"SOLVER.BASE_LR": 0.1}}))
    lines = [{"iteration": k, "bbox/AP": 3.0 + k + seed, "probe/knn_top1": 0.2 + k / 10} for k in range(3)]
    (run / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    metrics = {"bbox/AP": 5.0 + seed, "bbox/AP50": 9.0, "coco/AP": 5.0, "probe/knn_top1": 0.4}
    provenance = {"commit": "abc", "device": "cpu (x86_64)", "torch": "2", "finished": "2026-01-01T00:00:00Z"}
    results = {"kind": "detection", "seed": seed, "init": init, "metrics": metrics, "provenance": provenance}
    (run / "results.json").write_text(json.dumps({**results, "init_singular_values": [3.0, 2.0, 0.5]}))
    (run / "config.yaml").write_text("DATASETS: {TEST: [b]}\n")


def _write_inspection(look: Path, run: str) -> None:
    look.mkdir(parents=True)
    (look / "job.json").write_text(json.dumps({"kind": "inspect", "name": look.name, "detect": run, "attempts": []}))
    cosines = [[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]]
    results = {
        "kind": "inspection",
        "metrics": {},
        "singular_values_before": [2.0, 1.0],
        "class_cosines_before": cosines,
    }
    (look / "results.json").write_text(json.dumps({**results, "classes": ["a", "b", "c"], "provenance": {}}))
    Image.new("RGB", (20, 16), "red").save(look / "0.png")
    box = {"box": [1.0, 2.0, 10.0, 12.0], "label": "a"}
    image = {"file": "x.jpg", "image": "0.png", "ground_truth": [box], "detections": [{**box, "score": 0.9}]}
    (look / "examples.json").write_text(json.dumps({"data_set": "b", "images": [image]}))
