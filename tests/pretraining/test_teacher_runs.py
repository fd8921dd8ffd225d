"""Methods with a teacher as runs: shared by processes, of small and of streamed views."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from clop_det.commands.pretrain import main
from clop_det.errors import UserError
from clop_det.pretraining.build import build_method

from .conftest import arguments, read_options
from .test_ranks import assert_same_curve, run_one, run_ranks

SHORT = ["SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "0", "PROBE.ENABLED", "False"]
# A centre, small views and the teacher. All methods: test_method_runs.py, and on ranks tests/methods/test_parallel.py.
DINO = [
    *("METHOD.NAME", "dino", "METHOD.DINO.PROTOTYPES", "10", "METHOD.DINO.LOCAL_VIEWS", "2"),
    *("METHOD.DINO.LOCAL_SIZE", "16", "METHOD.DINO.FREEZE", "0.3", "METHOD.DINO.MOMENTUM", "0.5"),
]


def test_two_processes_draw_its_curve_of_one(tmp_path: Path, tiny_options: list[str], free_port: int) -> None:
    options = [*tiny_options, *SHORT, *DINO, "SOLVER.PRECISION", "fp32", "SOLVER.BASE_LR", "0.001"]
    options += ["SOLVER.WARMUP_ITERS", "0", "SOLVER.MAX_ITER", "5"]
    run_one(arguments(tmp_path / "one", options))
    run_ranks(2, arguments(tmp_path / "two", options), free_port)
    assert_same_curve(tmp_path / "one", tmp_path / "two")
    states = [torch.load(tmp_path / run / "model_final.pth", weights_only=True)["model"] for run in ("one", "two")]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-6, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


def test_views_too_small_for_the_cpu_s_bf16_are_computed_in_fp32(tiny_options: list[str]) -> None:
    options = [*tiny_options, *DINO]
    cfg = read_options(*options, "SOLVER.PRECISION", "auto")
    assert build_method(cfg, 3, torch.device("cpu")).half_type is False
    with pytest.raises(UserError, match="SOLVER.PRECISION is bf16, but at views of 16 the CPU's bf16 convolutions"):
        build_method(read_options(*options, "SOLVER.PRECISION", "bf16"), 3, torch.device("cpu"))


def test_small_views_stream_too(tmp_path: Path, tiny_options: list[str]) -> None:
    options = [*tiny_options, *SHORT, *DINO, "CLASSIFICATION.STORE_MAX_SIZE", "0"]
    assert main(arguments(tmp_path / "run", [*options, "SOLVER.MAX_ITER", "2"])) == 0
