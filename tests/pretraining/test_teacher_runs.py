"""Methods with a teacher as runs: shared by processes, refused where they must be, on small and on streamed views."""

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
# A queue and the student; a centre, small views and the teacher. All methods: test_method_runs.py here, and on ranks
# tests/methods/test_parallel.py.
METHODS = {
    "moco_v2": ["METHOD.MOCO_V2.QUEUE", "48", "METHOD.MOCO_V2.LOSS_WEIGHT", "0.5", "LOSS.NAME", "prototype_pull"],
    "dino": [
        *("METHOD.DINO.PROTOTYPES", "10", "METHOD.DINO.LOCAL_VIEWS", "2", "METHOD.DINO.LOCAL_SIZE", "16"),
        *("METHOD.DINO.FREEZE", "0.3", "METHOD.DINO.MOMENTUM", "0.5"),
    ],
}


@pytest.fixture(params=METHODS)
def options(request: pytest.FixtureRequest, tiny_options: list[str]) -> list[str]:
    return [*tiny_options, *SHORT, "METHOD.NAME", request.param, *METHODS[request.param]]


def test_two_processes_draw_its_curve_of_one(tmp_path: Path, tiny_options: list[str], free_port: int) -> None:
    options = [
        *tiny_options,
        *SHORT,
        "METHOD.NAME",
        "dino",
        *METHODS["dino"],
        "SOLVER.PRECISION",
        "fp32",
        "SOLVER.BASE_LR",
        "0.001",
        "SOLVER.WARMUP_ITERS",
        "0",
    ]
    options += ["SOLVER.MAX_ITER", "5"]
    run_one(arguments(tmp_path / "one", options))
    run_ranks(2, arguments(tmp_path / "two", options), free_port)
    assert_same_curve(tmp_path / "one", tmp_path / "two")
    states = [torch.load(tmp_path / run / "model_final.pth", weights_only=True)["model"] for run in ("one", "two")]
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-6, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


def test_micro_batches_are_refused(tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(UserError, match="SOLVER.ACCUMULATE is 2, but the method .* has no micro-batches"):
        main(arguments(tmp_path / "run", [*options, "SOLVER.ACCUMULATE", "2"]))
    assert not (tmp_path / "run").exists()


def test_views_too_small_for_the_cpu_s_bf16_are_computed_in_fp32(tiny_options: list[str]) -> None:
    options = [*tiny_options, "METHOD.NAME", "dino", *METHODS["dino"]]
    cfg = read_options(*options, "SOLVER.PRECISION", "auto")
    assert build_method(cfg, 3, torch.device("cpu")).half_type is False
    with pytest.raises(UserError, match="SOLVER.PRECISION is bf16, but at views of 16 the CPU's bf16 convolutions"):
        build_method(read_options(*options, "SOLVER.PRECISION", "bf16"), 3, torch.device("cpu"))


def test_small_views_stream_too(tmp_path: Path, tiny_options: list[str]) -> None:
    options = [*tiny_options, *SHORT, "METHOD.NAME", "dino", *METHODS["dino"], "CLASSIFICATION.STORE_MAX_SIZE", "0"]
    assert main(arguments(tmp_path / "run", [*options, "SOLVER.MAX_ITER", "2"])) == 0
