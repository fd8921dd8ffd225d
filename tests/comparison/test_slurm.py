"""The cluster launcher, through submitit's local executor: same interface, processes of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.jobs import jobs_to_run, prepare_folder
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.planning.plan import Plan, build_plan
from clop_det.comparison.running.display import Display
from clop_det.comparison.running.launchers import threads
from clop_det.comparison.running.scheduler import Scheduler
from clop_det.comparison.running.slurm import SubmititLauncher, _of_one_process
from clop_det.errors import UserError
from tests.comparison.workplace import COMMANDS, Workplace, pretrain_config, wait_for

pytest.importorskip("submitit", reason="needs submitit")
from submitit.local.local import LocalJobEnvironment

GROUP = Path(__file__).with_name("fake_group.py")


def plan_of(workplace: Workplace) -> Plan:
    return build_plan(read_matrix(load_compare_config(workplace.config), workplace.folder))


def launcher(workplace: Workplace, slots: int = 4) -> SubmititLauncher:
    return SubmititLauncher(slots, workplace.output, {"timeout_min": 30}, 1, COMMANDS, cluster="local")


def test_a_comparison_with_a_failure(workplace: Workplace) -> None:
    workplace.write({"INITS": ["random", "supcon", "clop"], "EXAMPLES": 0})
    (workplace.control / "fail-pretrain-supcon").touch()
    plan = plan_of(workplace)
    todo = jobs_to_run(plan.jobs, plan.root)
    outcome = Scheduler(plan.jobs, todo, plan.root, launcher(workplace), Display()).run()
    assert sorted(outcome.done) == sorted(name for name in plan.jobs if "supcon" not in name)
    ((name, reason),) = outcome.failed.items()
    assert name.startswith("pretrain-supcon")
    assert "made to fail" in reason
    assert len(outcome.blocked) == 2


def test_a_preempted_job_saves_is_queued_again_and_resumes(workplace: Workplace) -> None:
    (workplace.control / "slow").touch()
    (workplace.folder / "pretrain.yaml").write_text(pretrain_config(100))
    plan = plan_of(workplace)
    name = next(name for name, job in plan.jobs.items() if job.kind == "pretrain")
    folder = plan.root / name
    prepare_folder(plan.jobs[name], folder)
    start = launcher(workplace)
    with start.group():
        running = start.start(plan.jobs[name], folder, 0)
    wait_for(lambda: (folder / "state.json").exists())
    # What Slurm sends to the task before it preempts it.
    os.kill(int((folder / "parent.txt").read_text()), LocalJobEnvironment._usr_sig())
    wait_for(lambda: f"resume {name}" in workplace.started())
    wait_for(lambda: running.poll() is not None)
    assert running.poll() == 0
    iterations = [json.loads(line)["iteration"] for line in (folder / "metrics.json").read_text().splitlines()]
    assert iterations == list(range(100))


def test_a_stop_is_obeyed_between_steps(workplace: Workplace) -> None:
    (workplace.control / "slow").touch()
    (workplace.folder / "pretrain.yaml").write_text(pretrain_config(400))
    plan = plan_of(workplace)
    name = next(name for name, job in plan.jobs.items() if job.kind == "pretrain")
    folder = plan.root / name
    prepare_folder(plan.jobs[name], folder)
    start = launcher(workplace)
    running = start.start(plan.jobs[name], folder, 0)
    wait_for(lambda: (folder / "state.json").exists())
    running.stop(at_once=False)
    wait_for(lambda: running.poll() is not None)
    assert running.poll() == 75


def test_bad_parameters(workplace: Workplace) -> None:
    with pytest.raises(UserError, match="COMPARE.LAUNCH.SLURM"):
        SubmititLauncher(1, workplace.output, {"timeout_minutes": 3}, cluster="local")
    with pytest.raises(UserError, match="cpus_per_task"):
        SubmititLauncher(1, workplace.output, {"cpus_per_task": "many"}, cluster="local")


def test_quick_jobs_ask_for_one_gpu_and_its_share_of_cores(workplace: Workplace) -> None:
    asked = {"timeout_min": 30, "gpus_per_node": 8, "cpus_per_task": 64, "slurm_partition": "gpu"}
    start = SubmititLauncher(1, workplace.output, asked, 8, COMMANDS, cluster="local")
    assert _of_one_process(asked, 8) == {**asked, "gpus_per_node": 1, "cpus_per_task": 8}
    assert _of_one_process({"timeout_min": 5}, 1) == {"timeout_min": 5}
    assert start._quick._executor.parameters["gpus_per_node"] == 1
    assert start._executor._executor.parameters["gpus_per_node"] == 8


def test_ranks_share_the_cores_of_their_task() -> None:
    assert set(threads(64, 8).values()) == {"8"}
    assert set(threads(2, 8).values()) == {"1"}


def test_a_preempted_group_of_workers_saves_and_resumes_as_one(workplace: Workplace) -> None:
    group = {**COMMANDS, "pretrain": (sys.executable, str(GROUP))}
    plan = plan_of(workplace)
    name = next(name for name, job in plan.jobs.items() if job.kind == "pretrain")
    folder = plan.root / name
    prepare_folder(plan.jobs[name], folder)
    start = SubmititLauncher(1, workplace.output, {"timeout_min": 30}, 2, group, cluster="local")
    assert start.share() == {"cores": 1, "gpus": 2}
    running = start.start(plan.jobs[name], folder, 0)
    ranks = [folder / f"rank{rank}.jsonl" for rank in (0, 1)]
    wait_for(lambda: all(path.exists() for path in ranks))
    lines = [json.loads(path.read_text()) for path in ranks]
    assert [line["rank"] for line in lines] == [0, 1]
    assert {line["world"] for line in lines} == {2}
    assert len({line["agent"] for line in lines}) == 1  # one torchrun, two workers
    assert not any(line["resume"] for line in lines)
    task = int(subprocess.run(["ps", "-o", "ppid=", str(lines[0]["agent"])], capture_output=True, text=True).stdout)
    os.kill(task, LocalJobEnvironment._usr_sig())
    wait_for(lambda: running.poll() is not None)
    assert running.poll() == 0
    assert (folder / "saved0").exists()
    assert (folder / "saved1").exists()
    for path in ranks:
        assert [json.loads(line)["resume"] for line in path.read_text().splitlines()] == [False, True]
