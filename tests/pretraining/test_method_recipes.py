"""The recipe of every method for the digits: its one command runs, and what it saves is converted with proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from clop_det.commands.pretrain import main
from clop_det.config.reading import read_config
from clop_det.conversion.convert import convert_checkpoint
from clop_det.engine.metrics import read_metrics
from clop_det.methods import METHODS

from .conftest import ROOT

RECIPES = ROOT / "configs" / "pretrain"
SHIPPED = sorted(name for name in METHODS.names() if METHODS.entry(name).module.startswith("clop_det."))
SMALL = [
    *("CLASSIFICATION.ROOT", "digits://cluttered?train=40&val=10", "SOLVER.IMS_PER_BATCH", "8", "MODEL.DEVICE", "cpu"),
    *("SOLVER.MAX_ITER", "2", "SOLVER.WARMUP_ITERS", "0", "LABELS.FRACTION", "0.5", "PROBE.ENABLED", "False"),
]


@pytest.mark.parametrize("method", [name for name in SHIPPED if name != "single"])
def test_two_steps_on_the_digits_and_the_conversion_behind_them(method: str, tmp_path: Path) -> None:
    recipe = str(RECIPES / f"{method}_digits.yaml")
    cfg = read_config(recipe, [])
    assert method == cfg.METHOD.NAME
    assert f"output/pretrain/{method}_digits" == cfg.OUTPUT_DIR
    run = tmp_path / "run"
    assert main(["--config-file", recipe, *SMALL, "OUTPUT_DIR", str(run)]) == 0
    assert read_metrics(run)[-1]["total_loss"] > 0
    report = convert_checkpoint(run / "model_final.pth", tmp_path / "d2.pth")
    assert report.mapped == 100
    assert report.worst_error is not None


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*_imagenet.yaml")), ids=lambda path: path.stem)
def test_papers_settings_are_said_to_be_not_run(path: Path) -> None:
    head = path.read_text().split("_BASE_")[0]
    cfg = read_config(str(path), [])
    if cfg.METHOD.NAME != "single":
        assert "Not run here" in " ".join(head.split())
        assert "What differs" in head
