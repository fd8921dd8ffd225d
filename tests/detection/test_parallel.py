"""Two processes over gloo: train, evaluate, and the figures that one process gives for the same weights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from clop_det.commands.train import main
from clop_det.engine.leaving import EXIT_STOPPED
from clop_det.engine.metrics import read_metrics
from clop_det.files import read_json
from tests.detection.runs import command, same_weights

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def run(*words: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr  # the whole of it: what comes by chance must be seen the first time


@pytest.fixture(scope="module")
def together(tiny_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "run"
    changes = {"SOLVER__MAX_ITER": 2, "TEST__EVAL_PERIOD": 0, "TEST__IMS_PER_BATCH": 1}
    run(*TORCHRUN, "-m", "clop_det.commands.train", *command(tiny_options, folder, **changes))
    return folder


def test_two_processes_leave_one_run(together: Path) -> None:
    results = read_json(together / "results.json")
    assert {"bbox/AP", "coco/AP", "probe/knn_top1", "probe/object_knn_top1"} <= set(results["metrics"])
    assert [line["iteration"] for line in read_metrics(together)] == [0, 1]
    assert len(list(together.glob("events.out.tfevents.*"))) == 1


def test_one_process_evaluates_the_same_weights_to_the_same_figures(
    together: Path, tiny_options: list[str], tmp_path: Path
) -> None:
    weights = str(together / "model_final.pth")
    changes = {"MODEL__WEIGHTS": weights, "TEST__IMS_PER_BATCH": 1}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert main(command(tiny_options, tmp_path / "one", "--eval-only", **changes)) == 0
    finally:
        torch.set_num_threads(threads)
    alone = read_json(tmp_path / "one" / "evaluation.json")["metrics"]
    assert alone == pytest.approx(read_json(together / "results.json")["metrics"])


@pytest.mark.slow
def test_num_gpus_on_a_machine_without_gpus_starts_processes(
    together: Path, tiny_options: list[str], tmp_path: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("starts GPU processes here")
    changes = {"MODEL__WEIGHTS": str(together / "model_final.pth"), "TEST__IMS_PER_BATCH": 1}
    words = command(tiny_options, tmp_path / "spawned", "--eval-only", "--num-gpus", "2", **changes)
    run("-m", "clop_det.commands.train", *words)
    spawned = read_json(tmp_path / "spawned" / "evaluation.json")["metrics"]
    assert spawned == pytest.approx(read_json(together / "results.json")["metrics"])


@pytest.mark.slow
def test_sigterm_to_the_parent_saves_leaves_with_its_code_and_resumes_exactly(
    tiny_options: list[str], tmp_path: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("starts GPU processes here")
    changes = {"SOLVER__MAX_ITER": 20, "TEST__EVAL_PERIOD": 0, "PROBE__ENABLED": False, "TEST__PICTURES": 0}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run("-m", "clop_det.commands.train", *command(tiny_options, whole, "--num-gpus", "2", **changes))
    words = ["-m", "clop_det.commands.train", *command(tiny_options, stopped, "--num-gpus", "2", **changes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-W", "ignore", *words], env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.time() + 240
        while not (stopped / "model_0000002.pth.sha256").exists() and time.time() < deadline and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == EXIT_STOPPED, told.decode()[-2000:]
    assert b"--resume continues" in told
    assert not (stopped / "results.json").exists()
    assert not (stopped / "model_final.pth").exists()
    run("-m", "clop_det.commands.train", *command(tiny_options, stopped, "--resume", "--num-gpus", "2", **changes))
    assert same_weights(whole, stopped)
    lines = {line["iteration"]: line for line in read_metrics(stopped)}
    assert all(lines[line["iteration"]] == line for line in read_metrics(whole))


STOPPING = """
import os, signal, sys
from clop_det.commands import train as cli
from detectron2.utils import comm
from clop_det.detection.evaluation import TestSet
from clop_det.detection.trainer import DetectionTrainer
from clop_det.commands.common import run_tool

def stopping(owner, name, rank):
    call = getattr(owner, name)
    def stop(self, *arguments):
        stop.left -= 1
        if stop.left == 0 and comm.get_rank() == rank:
            os.kill(os.getpid(), signal.SIGTERM)
        return call(self, *arguments)
    stop.left = 2 if owner is DetectionTrainer else 1  # the first probes are those before the first step
    setattr(owner, name, stop)

if __name__ == "__main__":
    where = sys.argv.pop(1)
    stopping(*{"inference": (TestSet, "evaluate", 1), "probes": (DetectionTrainer, "run_probes", 0)}[where])
    run_tool(cli.main)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["inference", "probes"])
def test_a_stop_of_one_process_within_an_evaluation_ends_all_and_loses_nothing(
    together: Path, tiny_options: list[str], tmp_path: Path, where: str
) -> None:
    """The second process stops in the inference, the first one in the probes, which it alone computes."""
    (tmp_path / "stopping.py").write_text(STOPPING)
    changes = {"SOLVER__MAX_ITER": 2, "TEST__EVAL_PERIOD": 0, "TEST__IMS_PER_BATCH": 1}
    words = command(tiny_options, tmp_path / "run", **changes)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *TORCHRUN, str(tmp_path / "stopping.py"), where, *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stderr.count("stopped; the state is saved") == 2, done.stderr[-2000:]
    assert (tmp_path / "run" / "model_0000001.pth").is_file()
    assert not (tmp_path / "run" / "model_final.pth").exists()
    run(*TORCHRUN, "-m", "clop_det.commands.train", *command(tiny_options, tmp_path / "run", "--resume", **changes))
    assert (tmp_path / "run" / "metrics.json").read_bytes() == (together / "metrics.json").read_bytes()
    assert same_weights(together, tmp_path / "run")
