"""A user's probe from a file outside the package: in a pretraining, a fine-tuning and the report's table."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from clop_det.figures import CATALOGUE, LOWER
from clop_det.probes.base import PROBES, ProbeData
from tests.detection.conftest import cache_folder, crops_root, shapes_root
from tests.detection.conftest import tiny_options as detection_options
from tests.detection.runs import command
from tests.pretraining.conftest import arguments
from tests.processes import run_python

__all__ = ["cache_folder", "crops_root", "detection_options", "shapes_root"]
ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "examples" / "my_probe" / "within_class_spread.py"
TASKS = "('knn', 'objects', 'within_class_spread')"
NAME = "within_class_spread"


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    if NAME not in PROBES:
        spec = importlib.util.spec_from_file_location("my_within_class_spread", FILE)
        assert spec is not None
        assert spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_the_figure_is_the_mean_distance_to_the_class_mean() -> None:
    bank = torch.tensor([[0.0, 0.0], [0.0, 2.0], [5.0, 5.0]])
    data = ProbeData(bank, torch.tensor([0, 0, 1]), bank, torch.tensor([0, 0, 1]))
    probe = PROBES[NAME]({"NORMALISE": False})
    assert probe.measure(data) == {NAME: pytest.approx(2 / 3)}
    assert CATALOGUE.find(f"object_{NAME}_finetuned").label == "within-class spread on boxes after"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, crops_root: Path, detection_options: list[str]) -> Path:
    """A pretraining and a fine-tuning that use the probe; main is imported late, after the registration."""
    from clop_det.commands import pretrain, train

    output = tmp_path_factory.mktemp("runs")
    options = {
        "CLASSIFICATION.ROOT": crops_root, "CLASSIFICATION.IMAGE_SIZE": 32, "SOLVER.IMS_PER_BATCH": 6,
        "SOLVER.MAX_ITER": 4, "SOLVER.WARMUP_ITERS": 1, "TEST.EVAL_PERIOD": 1, "PROJECTOR.HIDDEN_DIM": 8,
        "PROJECTOR.OUT_DIM": 8, "LABELS.FRACTION": 0.5, "MODEL.DEVICE": "cpu", "PROBE.TASKS": TASKS,
        "PROBE.WITHIN_CLASS_SPREAD.NORMALISE": False, "PROBE.KEEP_BEST": NAME,
    }  # fmt: skip
    assert pretrain.main(arguments(output / "pretrain", [str(word) for item in options.items() for word in item])) == 0
    tasks = {"PROBE__TASKS": TASKS, "SOLVER__MAX_ITER": 2, "TEST__KEEP_BEST": f"probe/{NAME}"}
    assert train.main(command(detection_options, output / "detect", **tasks)) == 0
    return output


def test_the_lowest_spread_is_the_best_checkpoint(runs: Path) -> None:
    lines = [json.loads(line) for line in (runs / "pretrain" / "metrics.json").read_text().splitlines()]
    spread = {line["iteration"]: line[f"probe/{NAME}"] for line in lines}
    best = torch.load(runs / "pretrain" / "model_best.pth", weights_only=True)
    assert len(set(spread.values())) == 4
    assert spread[best["iteration"]] == min(spread.values())


def test_a_report_that_does_not_know_the_probe_shows_its_label_and_decimals(runs: Path, tmp_path: Path) -> None:
    results = json.loads((runs / "detect" / "results.json").read_text())
    assert [fact["name"] for fact in results["figures"]] == [NAME]
    assert results["figures"][0]["better"] == LOWER
    words = [ROOT / "tools" / "compare.py", "report", runs, "--output", tmp_path]
    assert run_python(words, tmp_path).returncode == 0
    page = (tmp_path / "report.html").read_text()
    for features in ("before fine-tuning", "after fine-tuning", "after fine-tuning, on annotated boxes"):
        table = page.partition(f"Features {features}:")[2].partition("</table>")[0]
        assert '<th scope="col">within-class spread</th>' in table
    value = results["metrics"][f"probe/object_{NAME}"]
    assert f">{value:.4f}</td>" in page
