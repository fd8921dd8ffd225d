"""How jobs are started on this machine: commands, shares of it, and why one failed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.planning.plan import build_plan
from clop_det.comparison.running.launchers import COMMANDS, FolderBusy, LocalLauncher, command, failure_reason
from clop_det.errors import UserError
from tests.comparison.workplace import Workplace, wait_for


def test_a_folder_in_use_is_not_entered(tmp_path: Path) -> None:
    first = LocalLauncher(1, {"convert": ("sleep",)})
    workplace = Workplace(tmp_path)
    plan = build_plan(read_matrix(load_compare_config(workplace.config), tmp_path))
    job = next(job for job in plan.jobs.values() if job.kind == "convert")
    holder = LocalLauncher(1, {"convert": ("python3", "-c", "import time; time.sleep(30)")})
    running = holder.start(job, tmp_path, 0)
    with pytest.raises(FolderBusy):
        first.start(job, tmp_path, 0)
    running.stop(at_once=True)
    wait_for(lambda: running.poll() is not None)
    assert running.poll() == -signal.SIGKILL
    first.start(job, tmp_path, 0).stop(at_once=True)


def test_commands(workplace: Workplace, tmp_path: Path) -> None:
    plan = build_plan(read_matrix(load_compare_config(workplace.config), workplace.folder))
    folder = tmp_path / "run"
    folder.mkdir()
    by_kind = {job.kind: job for job in plan.jobs.values()}
    pretrain = command(by_kind["pretrain"], folder)
    assert pretrain[1:] == ["-m", "clop_det.commands.pretrain", "--config-file", str(folder / "job.yaml")]
    group = command(by_kind["pretrain"], folder, gpus=4)
    assert group[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    assert group[6:8] == ["-m", "clop_det.commands.pretrain"]
    assert "torch.distributed.run" not in command(by_kind["convert"], folder, gpus=4)
    (folder / "config.yaml").touch()
    assert command(by_kind["pretrain"], folder)[-1] == "--resume"
    convert = command(by_kind["convert"], folder)
    assert convert[2] == "clop_det.commands.convert_job"
    assert convert[-1] == str(folder / "backbone.pth")
    assert convert[-2].endswith(f"{by_kind['pretrain'].name}/model_final.pth")
    assert set(COMMANDS) == {"pretrain", "convert", "detect", "inspect"}


def test_threads_and_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    two = LocalLauncher(2)
    assert [two.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(2)] == ["4", "6"]
    assert two.environment(0)["OMP_NUM_THREADS"] == "4"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    pairs = LocalLauncher(3, gpus=2)
    assert [pairs.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["0,1", "2,3", "0,1"]
    with pytest.raises(UserError, match="GPUS_PER_JOB is 5, but 4"):
        LocalLauncher(1, gpus=5)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    one = LocalLauncher(1).environment(0)
    assert one["CUDA_VISIBLE_DEVICES"] == "4,6"
    assert one.get("OMP_NUM_THREADS") == os.environ.get("OMP_NUM_THREADS")


def test_failure_reasons(tmp_path: Path) -> None:
    assert failure_reason(tmp_path, -9) == "ended by SIGKILL"
    assert failure_reason(tmp_path, 3) == "exit code 3: no output"
    (tmp_path / "job.log").write_text("\n--- command\nline\nerror: this is why\nbye\n")
    assert failure_reason(tmp_path, 2) == "exit code 2: error: this is why"
    with (tmp_path / "job.log").open("a") as log:
        log.write("\n--- command again\nCUDA out of memory\n")
    assert failure_reason(tmp_path, 1) == "exit code 1: CUDA out of memory"  # not what the first attempt said
