"""Killed at named points, a full disk, steps that are not finite: the run goes on as if nothing had been."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch

import clop_det.data.store_build
import clop_det.pretraining.probing
from clop_det.checkpoints import integrity
from clop_det.checkpoints.saving import SafeCheckpointer
from clop_det.commands.common import run_tool
from clop_det.commands.pretrain import main
from clop_det.data.views import Views
from clop_det.engine.metrics import MetricsWriter, read_metrics
from clop_det.errors import UserError
from clop_det.files import read_json
from clop_det.methods.single import Single
from clop_det.pretraining.data import BatchSource
from tests.processes import run_all

from .conftest import arguments, same_files

# Where the process dies: what is called, which call of it, and whether before or after it.
POINTS: dict[str, tuple[Any, str, int, bool]] = {
    "before a save": (SafeCheckpointer, "save", 2, False),
    "during a save": (integrity._DigestingWriter, "write", 100, False),
    "between a checkpoint and its digest": (integrity, "write_text", 2, False),
    "before old checkpoints are removed": (SafeCheckpointer, "_drop_superfluous", 2, False),
    "after a save": (SafeCheckpointer, "save", 3, True),
    "before a line of metrics": (MetricsWriter, "write", 3, False),
    "after a line of metrics": (MetricsWriter, "write", 3, True),
    "in a probe": (clop_det.pretraining.probing, "run_tasks", 3, False),
    "in the store's build": (clop_det.data.store_build, "centre_square", 10, False),
}


def dies(owner: Any, name: str, call: int, afterwards: bool) -> None:
    """Make `call` number so much of a function the last thing that this process does."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not afterwards:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if calls == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, counted)


def killed_run(point: str, cache: str, argv: list[str]) -> None:
    os.environ["CLOP_DET_CACHE"] = cache
    dies(*POINTS[point])
    main(argv)


def limited_run(limit: int, errors: str, argv: list[str]) -> None:
    """A run on a disk that takes no file above `limit` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    sys.argv = ["pretrain.py", *argv]
    with open(errors, "w") as file, redirect_stderr(file):
        run_tool(lambda _: main(argv))


@pytest.fixture(scope="module")
def options(tiny_options: list[str]) -> list[str]:
    """A shorter run still: 6 iterations, saved every 2, probed every 3."""
    times = ("SOLVER.MAX_ITER", "6", "SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "3")
    return [*tiny_options, *times]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, options: list[str]) -> Path:
    output = tmp_path_factory.mktemp("whole") / "run"
    assert main(arguments(output, options)) == 0
    return output


@pytest.mark.parametrize("point", list(POINTS))
def test_kill_nine_changes_nothing(
    point: str, whole: Path, tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = str(tmp_path / "cache") if "store" in point else os.environ["CLOP_DET_CACHE"]
    argv = arguments(tmp_path / "run", options)
    assert run_all(killed_run, [(point, cache, argv)]) == [-signal.SIGKILL], "the fault point was not reached"
    monkeypatch.setenv("CLOP_DET_CACHE", cache)
    assert main([*argv[:2], "--resume", *argv[2:]]) == 0
    same_files(whole, tmp_path / "run")


def test_kill_nine_changes_nothing_of_a_run_that_streams(tmp_path: Path, options: list[str]) -> None:
    streamed = [*options, "CLASSIFICATION.STORE_MAX_SIZE", "0", "DATALOADER.NUM_WORKERS", "2"]
    whole, killed = (arguments(tmp_path / name, streamed) for name in ("whole", "killed"))
    assert main(whole) == 0
    point = ("after a line of metrics", os.environ["CLOP_DET_CACHE"], killed)
    assert run_all(killed_run, [point]) == [-signal.SIGKILL], "the fault point was not reached"
    assert main([*killed[:2], "--resume", *killed[2:]]) == 0
    same_files(tmp_path / "whole", tmp_path / "killed")


def test_a_full_disk_leaves_the_last_checkpoint_and_the_run_goes_on(
    whole: Path, tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, write = tmp_path / "run", integrity._DigestingWriter.write

    def full(self: Any, data: Any) -> int:
        if (output / "model_0000001.pth").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, data)

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"cannot write .*\.pth: No space left.*Free"):
        patch.setattr(integrity._DigestingWriter, "write", full)
        main(arguments(output, options))
    kept = sorted(path.name for path in output.glob("*.pth"))
    assert kept
    assert all(integrity.why_damaged(output / name) is None for name in kept)
    assert not list(output.glob(".*.tmp"))
    assert main(arguments(output, options, "--resume")) == 0
    same_files(whole, output)


def test_a_disk_that_takes_no_checkpoint_is_one_line_and_exit_code_two(tmp_path: Path, options: list[str]) -> None:
    argv = arguments(tmp_path / "run", options)
    assert run_all(limited_run, [(4_000_000, str(tmp_path / "errors"), argv)]) == [2]
    errors = (tmp_path / "errors").read_text()
    assert "error: cannot write" in errors
    assert "Traceback" not in errors
    assert "Traceback" not in (tmp_path / "run" / "log.txt").read_text()
    assert not list((tmp_path / "run").glob("*.pth"))


def test_metrics_that_cannot_be_written_are_one_error(
    tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: MetricsWriter) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(MetricsWriter, "write", full)
    with pytest.raises(UserError, match=r"metrics of iteration 0 in .*run: No space left"):
        main(arguments(tmp_path / "run", options))


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        main(arguments(tmp_path / "file" / "run", options))


def spoil_views(patch: pytest.MonkeyPatch, iterations: set[int]) -> dict[int, list[int]]:
    """Views of these iterations hold a NaN; gives the labels that each batch had."""
    call, seen = BatchSource.__call__, {}

    def spoilt(self: BatchSource, iteration: int) -> tuple[Views, torch.Tensor]:
        views, labels = call(self, iteration)
        seen[iteration] = labels.tolist()
        if iteration in iterations:
            views.pixels[0, 1, 0, 0, 0] = torch.nan
        return views, labels

    patch.setattr(BatchSource, "__call__", spoilt)
    return seen


def spoil_gradient(patch: pytest.MonkeyPatch, call: int) -> None:
    """The gradient of one step is infinite, its loss is not."""
    loss_parts, calls = Single.loss_parts, 0

    def spoilt(self: Single, embeddings: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == call + 1:
            embeddings.register_hook(lambda gradient: gradient / 0)
        return loss_parts(self, embeddings, labels)

    patch.setattr(Single, "loss_parts", spoilt)


def test_a_loss_that_is_not_finite_stops_with_the_batch_and_a_dump(
    tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    labels = spoil_views(monkeypatch, {3})
    with pytest.raises(UserError, match=r"iteration 3 is not finite .*NaN.*nonfinite_0000003\.json.*SOLVER\.BASE_LR"):
        main(arguments(output, options))
    named = read_json(output / "nonfinite_0000003.json")
    assert named["labels"] == labels[3]
    assert len(named["indices"]) == len(named["files"]) == 8
    assert all(str(name).endswith(".png") for name in named["files"])
    dump = torch.load(output / "nonfinite_0000003.pt", weights_only=True)
    before = torch.load(output / "model_0000001.pth", weights_only=True)
    assert dump["iteration"] == 3
    assert dump["model"].keys() == before["model"].keys()
    assert "SEED: 0" in dump["config"]


@pytest.mark.parametrize("kind", ["views", "gradient"])
def test_a_step_that_is_not_finite_is_left_out_under_a_bound(
    kind: str, tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    if kind == "views":
        spoil_views(monkeypatch, {3})
    else:
        spoil_gradient(monkeypatch, 3)
    assert main(arguments(output, [*options, "SOLVER.MAX_SKIPPED", "1"])) == 0
    assert [line["iteration"] for line in read_metrics(output) if "skipped_steps" in line] == [3]
    assert read_json(output / "results.json")["skipped_steps"] == 1
    final = torch.load(output / "model_final.pth", weights_only=True)
    assert final["trainer"]["skipped_steps"] == 1
    assert all(torch.isfinite(tensor).all() for tensor in final["model"].values())
    assert (output / "nonfinite_0000003.json").exists()
    assert not (output / "nonfinite_0000003.pt").exists()


def test_the_bound_holds_over_a_resume(tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    output, options = tmp_path / "run", [*options, "SOLVER.MAX_SKIPPED", "1"]
    spoil_views(monkeypatch, {2, 5})
    with pytest.raises(UserError, match=r"iteration 5 is not finite .*SOLVER\.MAX_SKIPPED is 1"):
        main(arguments(output, options))
    with pytest.raises(UserError, match="iteration 5 is not finite"):
        main(arguments(output, options, "--resume"))


def test_the_best_checkpoint_holds_the_best_figure(whole: Path) -> None:
    figures = {line["iteration"]: line["probe/knn_top1"] for line in read_metrics(whole) if "probe/knn_top1" in line}
    later = {iteration: value for iteration, value in figures.items() if iteration > 0}
    best = torch.load(whole / "model_best.pth", weights_only=True)
    assert later[best["iteration"]] == max(later.values()) == best["trainer"]["hooks"]["BestCheckpoint"]["best"]
    assert integrity.why_damaged(whole / "model_best.pth") is None


def test_an_unknown_figure_for_the_best_checkpoint_is_named(tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(UserError, match=r"PROBE\.KEEP_BEST is 'knn'; the probes give knn_top1"):
        main(arguments(tmp_path / "run", [*options, "PROBE.KEEP_BEST", "knn"]))
