"""Several processes over gloo on the CPU: the run of one process with the same global batch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch

from clop_det.commands.common import run_tool
from clop_det.commands.pretrain import main
from clop_det.data.views import Views
from clop_det.engine.metrics import read_metrics
from clop_det.files import read_json
from clop_det.losses import prototype_pull
from clop_det.methods import Method
from clop_det.methods.single import Single
from clop_det.pretraining import trainer
from clop_det.pretraining.data import BatchSource
from tests.processes import run_all

from .conftest import arguments

ITERATIONS = 5


def rank_main(rank: int, world_size: int, port: int, argv: list[str]) -> None:
    """What torchrun gives a process, then the tool."""
    variables = {"RANK": rank, "WORLD_SIZE": world_size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": world_size}
    os.environ.update({key: str(value) for key, value in variables.items()})
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with double_precision():
        main(argv)


@contextmanager
def double_precision() -> Iterator[None]:
    """Training in fp64, where sums in another order stay equal: this tiny run multiplies a difference by 10 a step."""
    encode, project, build = Method.encode, Method.project, trainer.build_method
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Method, "encode", lambda self, pixels, *other: encode(self, pixels.double(), *other))
        patch.setattr(Method, "project", lambda self, features: project(self, features.double()))
        patch.setattr(trainer, "LOG_PERIOD", 1)
        patch.setattr(trainer, "build_method", lambda *arguments: build(*arguments).double())
        yield


def run_one(argv: list[str]) -> None:
    with double_precision():
        assert main(argv) == 0


def run_ranks(world_size: int, argv: list[str], port: int) -> None:
    codes = run_all(rank_main, [(rank, world_size, port, argv) for rank in range(world_size)])
    assert codes == [0] * world_size


@pytest.fixture
def options(tiny_options: list[str]) -> list[str]:
    """A few steps, one checkpoint on the way."""
    return [
        *tiny_options,
        *("SOLVER.MAX_ITER", str(ITERATIONS), "SOLVER.WARMUP_ITERS", "0", "SOLVER.PRECISION", "fp32"),
        *("SOLVER.CHECKPOINT_PERIOD", "3", "TEST.EVAL_PERIOD", "0", "SOLVER.BASE_LR", "0.001"),
    ]


def losses(run: Path) -> dict[str, torch.Tensor]:
    lines: list[dict[str, Any]] = read_metrics(run)
    assert [line["iteration"] for line in lines] == list(range(ITERATIONS))
    names = [key for key in lines[-1] if "loss" in key or key == "gradient_norm"]
    assert "total_loss" in names
    return {name: torch.tensor([line[name] for line in lines], dtype=torch.float64) for name in names}


def assert_same_curve(first: Path, second: Path) -> None:
    mine, theirs = losses(first), losses(second)
    assert mine.keys() == theirs.keys()
    for name, curve in mine.items():
        torch.testing.assert_close(curve, theirs[name], rtol=1e-7, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("loss", ["clop", "supcon", "vicreg"])
def test_two_processes_draw_the_loss_curve_of_one(
    loss: str, tmp_path: Path, options: list[str], free_port: int
) -> None:
    options = [*options, "LOSS.NAME", loss]
    run_one(arguments(tmp_path / "one", options))
    run_ranks(2, arguments(tmp_path / "two", options), free_port)
    assert_same_curve(tmp_path / "one", tmp_path / "two")
    states = [torch.load(tmp_path / run / "model_final.pth", weights_only=True)["model"] for run in ("one", "two")]
    assert states[0].keys() == states[1].keys()
    for key, tensor in states[0].items():
        torch.testing.assert_close(states[1][key], tensor, rtol=1e-6, atol=1e-7, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(
    before: int, after: int, tmp_path: Path, options: list[str], free_port: int
) -> None:
    run_one(arguments(tmp_path / "whole", options))
    output = tmp_path / "parts"
    run_ranks(before, arguments(output, options), free_port) if before > 1 else run_one(arguments(output, options))
    for path in output.glob("*.pth*"):  # as if it had been killed after three steps
        if "0000002" not in path.name:
            path.unlink()
    for path in output.glob("results.json"):
        path.unlink()
    argv = arguments(output, options, "--resume")
    run_ranks(after, argv, free_port + 1) if after > 1 else run_one(argv)
    assert_same_curve(tmp_path / "whole", output)


def other_matching_main(rank: int, world_size: int, port: int, argv: list[str]) -> None:
    """Rank 1 would match the prototypes in another way, as rounding may have it."""
    if rank == 1:
        prototype_pull.best_assignment = lambda score: torch.arange(len(score)).flip(0)
    else:
        prototype_pull.best_assignment = lambda score: torch.arange(len(score)).roll(1)
    rank_main(rank, world_size, port, argv)


def test_the_ranks_share_the_matched_prototypes_of_the_first(
    tmp_path: Path, options: list[str], free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*options, "LOSS.NAME", "clop", "LOSS.CLOP.ASSIGNMENT", "matched"]
    monkeypatch.setattr(prototype_pull, "best_assignment", lambda score: torch.arange(len(score)).roll(1))
    run_one(arguments(tmp_path / "one", options))
    argv = arguments(tmp_path / "two", options)
    assert run_all(other_matching_main, [(rank, 2, free_port, argv) for rank in range(2)]) == [0, 0]
    assert_same_curve(tmp_path / "one", tmp_path / "two")


def test_micro_batches_of_two_processes_are_those_of_one(tmp_path: Path, options: list[str], free_port: int) -> None:
    """Two processes of two micro-batches and one of four cut the batch alike; with BatchNorm of each alone, equal."""
    alone = [*options, "ENCODER.SYNC_BN", "False"]
    run_one(arguments(tmp_path / "one", [*alone, "SOLVER.ACCUMULATE", "4"]))
    run_ranks(2, arguments(tmp_path / "two", [*alone, "SOLVER.ACCUMULATE", "2"]), free_port)
    assert_same_curve(tmp_path / "one", tmp_path / "two")


def spoilt_rank_main(rank: int, world_size: int, port: int, argv: list[str], folder: str) -> None:
    """Rank 1 sees a NaN in its views of iteration 1 and an infinite gradient at iteration 3; each rank leaves what it
    ended with, and what it said, in `folder`."""
    if rank == 1:
        spoil_one_rank()
    train = trainer.PretrainTrainer.train

    def kept(self: trainer.PretrainTrainer, start_iter: int, max_iter: int) -> None:
        train(self, start_iter, max_iter)
        torch.save(dict(self.core.named_parameters()), Path(folder) / f"rank{rank}.pt")

    trainer.PretrainTrainer.train = kept
    sys.argv = ["pretrain.py", *argv]
    with (Path(folder) / f"errors{rank}.txt").open("w") as errors, redirect_stderr(errors):
        run_tool(lambda _: rank_main(rank, world_size, port, argv) or 0)


def spoil_one_rank() -> None:
    batch, loss_parts, now = BatchSource.__call__, Single.loss_parts, [0]

    def spoilt_batch(self: BatchSource, iteration: int) -> tuple[Views, torch.Tensor]:
        now[0] = iteration
        views, labels = batch(self, iteration)
        if iteration == 1:
            views.pixels[0, 0, 0, 0, 0] = torch.nan
        return views, labels

    def spoilt_parts(self: Single, embeddings: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        if now[0] == 3:
            embeddings.register_hook(lambda gradient: gradient / 0)
        return loss_parts(self, embeddings, labels)

    BatchSource.__call__, Single.loss_parts = spoilt_batch, spoilt_parts


def test_a_step_that_is_not_finite_on_one_rank_is_left_out_by_all(
    tmp_path: Path, options: list[str], free_port: int
) -> None:
    """Without shared statistics of BatchNorm, so that nothing but the loss's own rule tells the healthy rank."""
    argv = arguments(tmp_path / "run", [*options, "ENCODER.SYNC_BN", "False", "SOLVER.MAX_SKIPPED", "2"])
    codes = run_all(spoilt_rank_main, [(rank, 2, free_port, argv, str(tmp_path)) for rank in range(2)])
    assert codes == [0, 0], (tmp_path / "errors0.txt").read_text()
    skipped = [line["iteration"] for line in read_metrics(tmp_path / "run") if "skipped_steps" in line]
    assert skipped == [1, 3]
    assert read_json(tmp_path / "run" / "results.json")["skipped_steps"] == 2
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    assert all(torch.isfinite(tensor).all() for tensor in first.values())
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_step_that_is_not_finite_on_one_rank_stops_all(tmp_path: Path, options: list[str], free_port: int) -> None:
    argv = arguments(tmp_path / "run", [*options, "ENCODER.SYNC_BN", "False"])
    codes = run_all(spoilt_rank_main, [(rank, 2, free_port, argv, str(tmp_path)) for rank in range(2)])
    assert codes == [2, 2]
    for rank in range(2):
        errors = (tmp_path / f"errors{rank}.txt").read_text()
        assert f"error: rank {rank}: iteration 1 is not finite" in errors
        assert "Traceback" not in errors
    assert len(read_json(tmp_path / "run" / "nonfinite_0000001.json")["indices"]) == 8
    assert torch.load(tmp_path / "run" / "nonfinite_0000001.pt", weights_only=True)["iteration"] == 1
