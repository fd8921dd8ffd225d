"""Real torchrun on the CPU: agents that meet over env:// and c10d, a killed worker, a stop signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from clop_det.engine.leaving import EXIT_STOPPED
from clop_det.files import read_json

from .conftest import ROOT, arguments, same_files

pytestmark = pytest.mark.slow

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a command, whose output goes to a file; what still runs in the end is ended."""
    running: list[subprocess.Popen[bytes]] = []

    def run(command: list[str]) -> subprocess.Popen[bytes]:
        with (tmp_path / f"output{len(running)}.txt").open("wb") as output:
            running.append(subprocess.Popen([sys.executable, *command], stdout=output, stderr=subprocess.STDOUT))
        return running[-1]

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()


def torchrun(*options: str) -> list[str]:
    return ["-m", "torch.distributed.run", *options, str(ROOT / "tools" / "pretrain.py")]


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(number) for number in listed.split()]


def wait_for(condition: Callable[[], object], *processes: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert all(process.poll() is None for process in processes), "a run ended before it was disturbed"
        time.sleep(0.05)


def said(tmp_path: Path) -> str:
    return "\n".join(path.read_text(errors="replace") for path in sorted(tmp_path.glob("output*.txt")))


@pytest.fixture(scope="module")
def options(tiny_options: list[str]) -> list[str]:
    return [*tiny_options, "SOLVER.PRECISION", "fp32"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, options: list[str]) -> Path:
    """An undisturbed run of two processes."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, *torchrun("--standalone", "--nproc-per-node", "2"), *arguments(folder / "run", options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_json(folder / "run" / "results.json")["processes"] == 2
    return folder / "run"


def test_two_agents_start_the_run_anew_when_a_worker_is_killed(
    whole: Path, tmp_path: Path, options: list[str], free_port: int, start: Start
) -> None:
    output = tmp_path / "run"
    meet = ("--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "2", "--rdzv-backend", "c10d")
    where = ("--rdzv-endpoint", f"127.0.0.1:{free_port}", "--rdzv-id", "test", "--local-addr", "127.0.0.1")
    command = [*torchrun(*meet, *where), *arguments(output, options)]
    agents = [start(command), start(command)]
    wait_for(lambda: (output / "model_0000003.pth.sha256").exists(), *agents)
    (worker,) = children(agents[1].pid)
    os.kill(worker, signal.SIGKILL)
    assert [agent.wait(500) for agent in agents] == [0, 0], said(tmp_path)
    assert "Resuming from" in (output / "log.txt").read_text()
    same_files(whole, output)


@pytest.mark.parametrize(
    ("launcher", "number"),
    [("torchrun", signal.SIGTERM), ("--num-gpus", signal.SIGTERM), ("--num-gpus", signal.SIGINT)],
)
def test_a_stop_signal_reaches_all_processes(
    launcher: str, number: signal.Signals, whole: Path, tmp_path: Path, options: list[str], start: Start
) -> None:
    """They leave at the same step with one checkpoint; torchrun itself has one code for whatever ended it."""
    output = tmp_path / "run"
    if launcher == "torchrun":
        before, flags = torchrun("--standalone", "--nproc-per-node", "2"), []
    else:
        before, flags = [str(ROOT / "tools" / "pretrain.py")], ["--num-gpus", "2"]
    command = [*before, *arguments(output, options, *flags)]
    parent = start(command)
    wait_for(lambda: (output / "log.txt").exists() and "probes after 0" in (output / "log.txt").read_text(), parent)
    parent.send_signal(number)
    code = parent.wait(500)
    if code == 0:
        pytest.skip("the run was over before the signal arrived")
    assert code == (1 if launcher == "torchrun" else EXIT_STOPPED), said(tmp_path)
    kept = [path.name for path in output.glob("*.pth")]
    assert len(kept) == 1, kept
    stopped = torch.load(output / kept[0], weights_only=True)
    assert stopped["iteration"] < 11
    again = subprocess.run([sys.executable, *before, *arguments(output, options, *flags, "--resume")], timeout=500)
    assert again.returncode == 0
    same_files(whole, output)
