"""Crashed, killed, stopped: a resumed run ends as if nothing had been."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from clop_det.commands.train import main
from clop_det.detection.evaluation import Evaluation, TestSet
from clop_det.detection.trainer import DetectionTrainer
from clop_det.engine.metrics import read_metrics
from clop_det.engine.stop import StopRequested
from clop_det.files import read_json
from tests.detection.runs import Crash, command, same_weights
from tests.processes import start_python


@pytest.mark.parametrize("crash_at", [3, 4])
def test_resuming_after_a_crash_gives_the_same_bytes(
    finished: Path, tiny_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    step = DetectionTrainer.run_step

    def crashing(self: DetectionTrainer) -> None:
        if self.iter == crash_at:
            raise Crash
        step(self)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(DetectionTrainer, "run_step", crashing)
        main(command(tiny_options, tmp_path / "run"))
    torch.rand(17)  # whatever the global generators did meanwhile must not matter
    assert main(command(tiny_options, tmp_path / "run", "--resume")) == 0
    assert (tmp_path / "run" / "metrics.json").read_bytes() == (finished / "metrics.json").read_bytes()
    assert same_weights(finished, tmp_path / "run")


def test_resuming_after_kill_9_gives_the_same_bytes(tiny_options: list[str], tmp_path: Path) -> None:
    changes = {"SOLVER__MAX_ITER": 9, "TEST__EVAL_PERIOD": 0, "PROBE__ENABLED": False, "TEST__PICTURES": 0}
    assert main(command(tiny_options, tmp_path / "whole", **changes)) == 0
    folder = tmp_path / "killed"
    words = ["-m", "clop_det.commands.train", *command(tiny_options, folder, **changes)]
    process = start_python(words, tmp_path)
    while not (folder / "model_0000002.pth.sha256").exists() and process.is_alive():
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert main(command(tiny_options, folder, "--resume", **changes)) == 0
    assert (folder / "metrics.json").read_bytes() == (tmp_path / "whole" / "metrics.json").read_bytes()
    assert same_weights(tmp_path / "whole", folder)


def test_a_stop_signal_ends_the_run_and_resuming_completes_it(
    finished: Path, tiny_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = DetectionTrainer.run_step

    def stopping_step(self: DetectionTrainer) -> None:
        if self.iter == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self)

    with monkeypatch.context() as patch, pytest.raises(StopRequested):
        patch.setattr(DetectionTrainer, "run_step", stopping_step)
        main(command(tiny_options, tmp_path / "run"))
    assert main(command(tiny_options, tmp_path / "run", "--resume")) == 0
    ours, theirs = (read_metrics(folder) for folder in (tmp_path / "run", finished))
    assert {line["iteration"]: line for line in theirs}.items() <= {line["iteration"]: line for line in ours}.items()
    assert same_weights(finished, tmp_path / "run")


WATCHED = {
    "SOLVER__MAX_ITER": 3,
    "TEST__EVAL_PERIOD": 1,
    "TEST__PRECISE_BN__ENABLED": True,
    "TEST__PRECISE_BN__NUM_ITER": 3,
    "TEST__KEEP_BEST": "probe/object_knn_top1",
    "TEST__PICTURES": 0,
}


@pytest.fixture(scope="module")
def watched(tiny_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is evaluated after each of three steps, saved after the last, and that nothing disturbed."""
    folder = tmp_path_factory.mktemp("watched") / "whole"
    assert main(command(tiny_options, folder, **WATCHED)) == 0
    return folder


@pytest.mark.parametrize(
    ("where", "iteration"), [("start", -1), ("inference", 0), ("precise bn", 1), ("probes", 1), ("inference", 2)]
)
def test_a_stop_within_an_evaluation_loses_nothing(
    watched: Path,
    tiny_options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    iteration: int,
) -> None:
    step, probes, batches = DetectionTrainer._step, DetectionTrainer.run_probes, DetectionTrainer._bn_batches
    inference = TestSet.evaluate
    steps: list[int] = []

    def counted(self: DetectionTrainer, losses: dict[str, Any]) -> None:
        steps.append(self.iter)
        step(self, losses)

    def stop(place: str) -> None:
        if place == where and (steps or [-1])[-1] == iteration:
            os.kill(os.getpid(), signal.SIGTERM)

    def stopping_probes(self: DetectionTrainer) -> dict[str, float]:
        stop("probes" if steps else "start")
        return probes(self)

    def stopping_batches(self: DetectionTrainer) -> Iterator[Any]:
        for place, batch in enumerate(batches(self)):
            if place == 1:
                stop("precise bn")
            yield batch

    def stopping_inference(self: TestSet, *arguments: Any) -> Evaluation | None:
        stop("inference")
        return inference(self, *arguments)

    def uncaught(number: int, frame: FrameType | None) -> None:
        raise AssertionError("the signal would have killed the process")

    previous = signal.signal(signal.SIGTERM, uncaught)
    monkeypatch.setattr(DetectionTrainer, "_step", counted)
    with monkeypatch.context() as patch, pytest.raises(StopRequested):
        patch.setattr(DetectionTrainer, "run_probes", stopping_probes)
        patch.setattr(DetectionTrainer, "_bn_batches", stopping_batches)
        patch.setattr(TestSet, "evaluate", stopping_inference)
        main(command(tiny_options, tmp_path / "run", **WATCHED))
    assert signal.signal(signal.SIGTERM, previous) is uncaught
    assert main(command(tiny_options, tmp_path / "run", "--resume", **WATCHED)) == 0
    assert steps == [0, 1, 2]
    assert (tmp_path / "run" / "metrics.json").read_bytes() == (watched / "metrics.json").read_bytes()
    assert same_weights(watched, tmp_path / "run")
    best, theirs = (torch.load(f / "model_best.pth", weights_only=True) for f in (tmp_path / "run", watched))
    assert best["iteration"] == theirs["iteration"]
    assert best["trainer"]["hooks"] == theirs["trainer"]["hooks"]


def test_resuming_a_finished_run_only_writes_its_results_again(
    finished: Path, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_json(finished / "results.json")["metrics"]
    (finished / "results.json").unlink()

    def refuse(self: DetectionTrainer) -> None:
        raise AssertionError("a finished run must not train")

    monkeypatch.setattr(DetectionTrainer, "run_step", refuse)
    assert main(command(tiny_options, finished, "--resume")) == 0
    assert read_json(finished / "results.json")["metrics"] == before


@pytest.mark.parametrize("lost", [("model_final.pth", "model_final.pth.sha256"), ("metrics.json",), ()])
def test_resuming_a_run_killed_behind_its_last_step_leaves_all_of_it(
    finished: Path, tiny_options: list[str], tmp_path: Path, lost: tuple[str, ...]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for name in ("results.json", "detections.png", "precision_recall.png", *lost):
        (folder / name).unlink(missing_ok=True)
    assert main(command(tiny_options, folder, "--resume")) == 0
    for name in ("detections.png", "precision_recall.png", "model_final.pth", "model_final.pth.sha256"):
        assert (folder / name).is_file(), name
    assert read_json(folder / "results.json")["metrics"] == read_json(finished / "results.json")["metrics"]
    assert same_weights(finished, folder)


def test_a_failing_picture_does_not_cost_the_results(
    finished: Path, tiny_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path / "run")
    for name in ("results.json", "precision_recall.png"):
        (tmp_path / "run" / name).unlink()

    def fail(self: DetectionTrainer) -> None:
        raise Crash

    monkeypatch.setattr(DetectionTrainer, "draw", fail)
    assert main(command(tiny_options, tmp_path / "run", "--resume")) == 0
    assert (tmp_path / "run" / "results.json").is_file()
