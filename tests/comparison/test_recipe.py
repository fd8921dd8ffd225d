"""What the first screen says: what varied, what all rows share, what was measured on what, and what it cost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from clop_det.comparison.report import pareto
from clop_det.comparison.report.pareto import cost_table, front, metric_against_cost
from clop_det.comparison.results.costs import setting_costs
from clop_det.comparison.results.recipe import measured, shared, varied
from clop_det.comparison.results.summary import Comparison, read_comparison
from clop_det.figures import HIGHER, LOWER
from tests.comparison.kept import kept_comparison, kept_run

CONFIG: dict[str, Any] = {
    "SOLVER": {"MAX_ITER": 250, "IMS_PER_BATCH": 8, "BASE_LR": 0.01},
    "MODEL": {"META_ARCHITECTURE": "GeneralizedRCNN", "BACKBONE": {"NAME": "fpn"}},
    "DATASETS": {"TRAIN": ["a", "b"], "TEST": ["test"], "TRAIN_FRACTION": 0.5},
    "CLASSIFICATION": {"ROOT": "digits://x", "TRAIN_SPLIT": "train", "EVAL_SPLIT": "val"},
    "PROBE": {"MAX_BANK": 500, "MAX_QUERIES": 0, "KNN": {"K": [20, 200]}},
}


def pretraining(folder: Path, name: str, seconds: float, labels: int | None, **facts: Any) -> None:
    run = folder / "jobs" / name
    run.mkdir()
    attempts = [{"seconds": seconds, "cores": 2, "exit_code": 0}]
    (run / "job.json").write_text(json.dumps({"kind": name.split("-")[0], "name": name, "attempts": attempts, **facts}))
    (run / "results.json").write_text(json.dumps({"kind": "pretraining", "metrics": {}}))
    (run / "config.yaml").write_text("ENCODER: {ARCH: resnet18}\nSOLVER: {MAX_ITER: 600}\n")
    if labels is not None:
        (run / "label_split.json").write_text(json.dumps({"labelled_images": labels}))


def link(folder: Path, run: str, **facts: Any) -> None:
    path = folder / "jobs" / run / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """random, twice, clop with 10 % of the labels, free (no labels) and given (a checkpoint), two seeds each."""
    folder = kept_comparison(tmp_path_factory.mktemp("recipe"))
    for seed in range(2):
        for init in ("free", "given", "scratch"):
            kept_run(folder, init, seed)
        pretraining(folder, f"pretrain-clop-{seed}", 100 + seed, 260)
        pretraining(folder, f"pretrain-free-{seed}", 50, 260)
        pretraining(folder, f"convert-given-{seed}", 7, None)
        link(folder, f"detect-clop-{seed}", pretrain=f"pretrain-clop-{seed}", label_fraction=0.1)
        link(folder, f"detect-free-{seed}", pretrain=f"pretrain-free-{seed}")
        link(folder, f"detect-given-{seed}", convert=f"convert-given-{seed}")
        for init in ("random", "clop", "free", "given", "scratch"):
            (folder / "jobs" / f"detect-{init}-{seed}" / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    read = read_comparison([folder])
    for row in read.rows:
        row.metrics["knn_top1"] = 0.5
    return read


def test_the_first_screen_names_recipe_rule_and_data(comparison: Comparison) -> None:
    assert varied(comparison) == "the initialisation (clop, free, given, random, scratch)."
    assert dict(shared(comparison)) == {
        "pretraining": "600 steps, resnet18",
        "detector": "GeneralizedRCNN with fpn",
        "fine-tuning": "250 steps of 8 images, learning rate 0.01, on a, b, 50 % of the images",
        "seeds": "0, 1; one seed gives every row the same split, views and order of images",
    }
    kept = json.loads((comparison.rows[0].folders["detect"] / "ground_truth.json").read_text())
    counted = [box for box in kept["annotations"] if not box["difficult"] and not box["iscrowd"]]
    assert dict(measured(comparison)) == {
        "AP": "VOC's rule of 2010 to 2012 (area under the curve, mean over overlaps .50 to .95) on test: 20 images,"
        f" {len(counted)} boxes of 3 classes ({len(kept['annotations']) - len(counted)} further boxes, difficult or"
        " crowds, count neither way)",
        "kNN": "votes of 20 neighbours; bank: at most 500 images of train, queries: all images of val, of digits://x",
    }


def test_values_that_differ_are_all_named(comparison: Comparison) -> None:
    config = comparison.rows[0].folders["detect"] / "config.yaml"
    before = config.read_text()
    config.write_text(yaml.safe_dump({**CONFIG, "SOLVER": {**CONFIG["SOLVER"], "BASE_LR": 0.1}}))
    comparison.configs.clear()  # a config is read once
    assert "learning rate 0.1 or 0.01" in dict(shared(comparison))["fine-tuning"]
    for odd in (
        "DATASETS: 3",
        "DATASETS: {TRAIN: 5, TRAIN_FRACTION: [1]}",
        "PROBE: {KNN: 2}\nCLASSIFICATION: [1]",
        "- a",
    ):
        config.write_text(odd)
        comparison.configs.clear()
        assert dict(shared(comparison))["detector"] == "GeneralizedRCNN with fpn"
        assert measured(comparison)
    config.write_text(before)
    comparison.configs.clear()


def test_what_a_row_costs(comparison: Comparison) -> None:
    costs = {s.setting.init: cost for s, cost in zip(comparison.summaries, setting_costs(comparison), strict=True)}
    known = {"random": 0, "scratch": 0, "clop": 260, "free": 0, "given": None}
    assert {init: cost.labels for init, cost in costs.items()} == known
    assert costs["clop"].stages["pretraining"] == {"core-seconds": pytest.approx(2 * 100.5)}
    assert costs["free"].stages["fine-tuning"] == {"core-seconds": pytest.approx(2 * 60.5)}
    header, lines = cost_table(comparison)
    assert header == ["initialisation", "class labels", "pretraining", "fine-tuning"]
    dash = costs["given"].text("pretraining")
    assert [line[:3] for line in sorted(lines)] == [
        ["clop", "260", "201 core-seconds"],
        ["free", "0", "100 core-seconds"],
        ["given", dash, dash],
        ["random", "0", "0"],
        ["scratch", "0", "0"],
    ]


def test_the_metric_is_drawn_against_both_costs(comparison: Comparison) -> None:
    by_cost, by_labels = metric_against_cost(comparison)
    assert by_cost.name == "metric_against_cost_core_scenes"
    assert "core-seconds of pretraining" in by_cost.svg
    assert "What a given checkpoint cost is not known" in by_cost.caption
    assert ">given<" not in by_cost.svg + by_labels.svg
    assert all(f">{init}<" in by_cost.svg for init in ("random", "clop", "free"))
    assert "class labels that pretraining saw" in by_labels.svg


def test_a_pretraining_on_a_gpu_did_not_cost_0_core_seconds(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs = [
        dataclasses.replace(cost, stages={"pretraining": {"GPU-seconds": 9.0}})
        if summary.setting.init == "free"
        else cost
        for summary, cost in zip(comparison.summaries, setting_costs(comparison), strict=True)
    ]
    monkeypatch.setattr(pareto, "setting_costs", lambda _: costs)
    on_gpus, on_cores = (by_cost for by_cost in metric_against_cost(comparison) if "_cost_" in by_cost.name)
    assert all(f">{init}<" in on_cores.svg for init in ("random", "clop"))
    assert ">free<" not in on_cores.svg
    assert ">clop<" not in on_gpus.svg
    assert "What cost no core-seconds is not shown." in on_cores.caption


def test_the_front_is_what_nothing_cheaper_surpasses() -> None:
    points = [(0.0, 5.0), (1.0, 7.0), (1.0, 6.0), (2.0, 6.5), (3.0, 7.0), (4.0, 9.0)]
    for better, sign in ((HIGHER, 1.0), (LOWER, -1.0)):
        turned = [(x, sign * y) for x, y in points]
        beaten = [any(a <= x and sign * b >= sign * y and (a, b) != (x, y) for a, b in turned) for x, y in turned]
        assert front(turned, better) == [p for p, is_beaten in zip(turned, beaten, strict=True) if not is_beaten]
    assert front(points, None) == []
