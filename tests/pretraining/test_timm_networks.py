"""Every method pretrains a transformer of timm; views of a size that a network cannot take are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clop_det.commands.pretrain import main
from clop_det.conversion.convert import convert_checkpoint
from clop_det.engine.metrics import read_metrics
from clop_det.errors import UserError
from clop_det.methods import METHODS
from clop_det.pretraining.build import build_method
from tests.pretraining.conftest import arguments, read_options

VIT = "timm:test_vit:img_size=32:patch_size=8"
SHIPPED = [name for name in METHODS.names() if METHODS.entry(name).module.startswith("clop_det.")]
SMALL = ["METHOD.DINO.LOCAL_VIEWS", "1", "METHOD.DINO.LOCAL_SIZE", "16", "METHOD.DINO.PROTOTYPES", "10"]


@pytest.mark.parametrize("method", SHIPPED)
def test_a_step_of_every_method(method: str, tmp_path: Path, tiny_options: list[str]) -> None:
    options = [*tiny_options, "ENCODER.ARCH", VIT, "METHOD.NAME", method, "METHOD.DENSE.STAGE", "block6", *SMALL]
    options += ["SOLVER.MAX_ITER", "1", "SOLVER.WARMUP_ITERS", "0", "PROBE.ENABLED", "False", "TEST.EVAL_PERIOD", "0"]
    assert main(arguments(tmp_path / "run", options)) == 0
    (line,) = read_metrics(tmp_path / "run")
    assert line["total_loss"] > 0
    if method in ("single", "dino", "moco_v3"):  # other methods save their networks in the same two forms
        report = convert_checkpoint(tmp_path / "run" / "model_final.pth", tmp_path / "d2.pth")
        assert (report.source, report.arch, report.mapped) == ("clop_det", VIT, 78)
        assert report.worst_error < 1e-5


@pytest.mark.parametrize(
    ("arch", "size", "multiple"), [(VIT, 20, "8, e.g. 16, or give"), ("timm:test_convnext", 20, "32, e.g. 32")]
)
def test_small_views_that_a_network_cannot_take_are_refused(
    arch: str, size: int, multiple: str, tiny_options: list[str]
) -> None:
    options = [*tiny_options, "ENCODER.ARCH", arch, "METHOD.NAME", "dino", *SMALL, "METHOD.DINO.LOCAL_SIZE", str(size)]
    message = rf"METHOD.DINO.LOCAL_SIZE is {size}, which {arch} cannot take: .*Set METHOD.DINO.LOCAL_SIZE .*{multiple}"
    with pytest.raises(UserError, match=message):
        build_method(read_options(*options), 3, torch.device("cpu"))
