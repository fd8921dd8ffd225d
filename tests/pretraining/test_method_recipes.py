"""The recipe of every method for the digits: it takes a step on the digits as its one command would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clop_det.config.reading import read_config
from clop_det.methods import METHODS
from clop_det.pretraining.build import build_method, check_config
from clop_det.pretraining.data import BatchSource, open_data
from clop_det.pretraining.optimizers import build_optimizer

from .conftest import ROOT

RECIPES = ROOT / "configs" / "pretrain"
SHIPPED = sorted(name for name in METHODS.names() if METHODS.entry(name).module.startswith("clop_det."))
SMALL = ("CLASSIFICATION.ROOT", "digits://cluttered?train=20&val=10", "SOLVER.IMS_PER_BATCH", "8")


@pytest.mark.parametrize("method", [name for name in SHIPPED if name != "single"])
def test_one_step_on_the_digits(method: str) -> None:
    cfg = read_config(str(RECIPES / f"{method}_digits.yaml"), [*SMALL, "SOLVER.PRECISION", "fp32"])
    check_config(cfg)
    assert method == cfg.METHOD.NAME
    assert f"output/pretrain/{method}_digits" == cfg.OUTPUT_DIR
    data = open_data(cfg)
    built = build_method(cfg, len(data.train.classes), torch.device("cpu")).train()
    optimizer = build_optimizer(cfg, torch.nn.ModuleList(built.trained))
    batches = BatchSource(cfg, data, built.views_needed)
    for i in range(2):
        parts = built(*batches(i))
        sum(parts.values()).backward()
        optimizer.step()
        built.after_step((i + 1) / cfg.SOLVER.MAX_ITER)
        assert all(torch.isfinite(part) for part in parts.values())


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*_imagenet.yaml")), ids=lambda path: path.stem)
def test_papers_settings_are_said_to_be_not_run(path: Path) -> None:
    head = path.read_text().split("_BASE_")[0]
    cfg = read_config(str(path), [])
    if cfg.METHOD.NAME != "single":
        assert "Not run here" in " ".join(head.split())
        assert "What differs" in head
