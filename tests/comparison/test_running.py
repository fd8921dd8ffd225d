"""Running a comparison: nothing is repeated, what was killed resumes, what failed is reported."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from clop_det.comparison.experiment import select_jobs
from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.jobs import is_done, prepare_folder
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.planning.plan import build_plan
from clop_det.comparison.results.runs import read_run
from clop_det.engine.descent import descendants
from clop_det.engine.run_folder import claim_run_folder
from clop_det.errors import UserError
from tests.comparison.workplace import Workplace, detect_config, pretrain_config, results, wait_for


def test_from_yaml_to_report(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert workplace.run() == 0
    out = capsys.readouterr().out
    assert "[1/6] start" in out
    assert "report:" in out
    assert "ranks nothing" in out
    rows = {row["init"]: row for row in results(workplace)}
    assert set(rows) == {"random", "clop"}
    assert all(rows[init]["status"] == "done" for init in rows)
    assert float(rows["clop"]["AP"]) > 0
    assert float(rows["clop"]["knn_top1"]) > float(rows["random"]["knn_top1"])
    columns = ["init", "label_fraction", "seed", "AP", "AP50", "AP75", "knn_top1", "linear_top1", "rankme"]
    assert list(rows["clop"])[: len(columns)] == columns
    assert rows["clop"]["label_fraction"] == "0.1"
    assert rows["random"]["label_fraction"] == ""
    for name in ("results.md", "results.tex", "report.html", "differences.csv", "figures/metric_by_setting.png"):
        assert (workplace.output / "report" / name).stat().st_size > 0


def test_finished_jobs_are_never_repeated_and_a_new_seed_runs_only_what_is_new(workplace: Workplace) -> None:
    assert workplace.run() == 0
    before = workplace.started()
    assert workplace.run() == 0
    assert workplace.started() == before
    assert workplace.run("COMPARE.SEEDS", "[0, 1]") == 0
    new = workplace.started()[len(before) :]
    # Per new seed: CLOP's pretraining and conversion, two detections.
    assert len(new) == 4
    assert all("-s1-" in line for line in new)
    assert len(results(workplace)) == 4


def test_what_ran_before_under_another_config_is_named(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert workplace.run() == 0
    assert "ran here before" not in capsys.readouterr().out
    for file in (workplace.output / "jobs").glob("detect-*/job.yaml"):  # as a package that lacks one key left it
        file.write_text(re.sub("^  KEEP_BEST:.*\n", "", file.read_text(), flags=re.MULTILINE))
    (workplace.folder / "detect.yaml").write_text(detect_config(9))
    assert workplace.run("--dry-run") == 0
    out = capsys.readouterr().out
    assert "note: 2 jobs ran here before under another identity" in out
    assert "SOLVER.MAX_ITER" in out
    assert "TEST.KEEP_BEST" in out
    assert "OUTPUT_DIR" not in out


def test_a_failed_job_is_reported_and_does_not_stop_the_rest(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    workplace.write({"INITS": ["random", "supcon", "clop"]})
    fault = workplace.control / "fail-pretrain-supcon"
    fault.touch()
    assert workplace.run() == 1
    out = capsys.readouterr().out
    assert "FAILED   pretrain supcon" in out
    assert "error: made to fail" in out
    assert "not run" in out
    rows = {row["init"]: row for row in results(workplace)}
    assert rows["supcon"]["status"] == "failed"
    assert rows["supcon"]["AP"] == ""
    assert rows["clop"]["status"] == "done"
    assert rows["random"]["status"] == "done"
    assert "made to fail" in (workplace.output / "report" / "report.html").read_text()
    fault.unlink()
    done = len(workplace.started())
    assert workplace.run() == 0
    again = workplace.started()[done:]
    assert len(again) == 4
    assert all("supcon" in line for line in again)
    assert {row["status"] for row in results(workplace)} == {"done"}


def test_a_stop_signal_stops_the_jobs_and_the_next_start_goes_on(workplace: Workplace) -> None:
    slow = workplace.control / "slow"
    slow.touch()
    (workplace.folder / "pretrain.yaml").write_text(pretrain_config(400))
    process = workplace.start("--jobs", "2")
    jobs = workplace.output / "jobs"
    wait_for(lambda: any(jobs.glob("pretrain-*/state.json")))
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 75, output
    assert "stopped" in output
    assert "report:" in output
    folder = next(jobs.glob("pretrain-*"))
    steps = json.loads((folder / "state.json").read_text())
    assert 0 < steps < 400
    assert not (folder / "results.json").exists()
    time.sleep(0.3)
    assert json.loads((folder / "state.json").read_text()) == steps  # nothing runs on
    slow.unlink()
    assert workplace.run() == 0
    assert f"resume {folder.name}" in workplace.started()
    iterations = [json.loads(line)["iteration"] for line in (folder / "metrics.json").read_text().splitlines()]
    assert iterations == list(range(400))


def test_a_killed_comparison_leaves_no_orphan_and_goes_on(workplace: Workplace) -> None:
    slow = workplace.control / "slow"
    slow.touch()
    (workplace.folder / "pretrain.yaml").write_text(pretrain_config(400))
    workplace.write({"INITS": ["clop", "random"]})
    process = workplace.start()
    jobs = workplace.output / "jobs"
    wait_for(lambda: any(jobs.glob("pretrain-*/state.json")))
    process.kill()
    process.communicate(timeout=300)
    slow.unlink()
    # The second start waits for the first one's job if that still lives, then resumes it.
    assert workplace.run() == 0
    folder = next(jobs.glob("pretrain-*"))
    iterations = [json.loads(line)["iteration"] for line in (folder / "metrics.json").read_text().splitlines()]
    assert iterations == list(range(400))
    assert workplace.started().count(f"start {folder.name}") == 1


def test_a_job_that_a_stop_ended_has_not_failed(workplace: Workplace) -> None:
    (workplace.control / "slow").touch()
    (workplace.folder / "pretrain.yaml").write_text(pretrain_config(4000))
    workplace.write({"INITS": ["clop", "random"]})
    process = workplace.start()
    jobs = workplace.output / "jobs"
    wait_for(lambda: any(jobs.glob("pretrain-*/state.json")))
    folder = next(jobs.glob("pretrain-*"))
    for child in descendants(process.pid):
        if str(folder) in Path(f"/proc/{child}/cmdline").read_text():
            os.kill(child, signal.SIGSTOP)  # it cannot save
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 75, output
    assert json.loads((folder / "job.json").read_text())["attempts"][-1]["exit_code"] == -9
    run = read_run(folder)
    assert run is not None
    assert run.status == "partial"


def test_a_moved_comparison_goes_on_in_the_middle_of_fine_tuning(workplace: Workplace, tmp_path: Path) -> None:
    plan = build_plan(read_matrix(load_compare_config(workplace.config), workplace.folder))
    job = next(job for job in plan.jobs.values() if job.kind == "detect" and "clop" in job.name)
    folder = plan.root / job.name
    prepare_folder(job, folder)
    claim_run_folder(job.config, resume=False)
    (folder / "model_0000003.pth").touch()  # it has begun
    moved = tmp_path / "elsewhere" / "out"
    moved.parent.mkdir()
    workplace.output.rename(moved)
    plan = build_plan(read_matrix(load_compare_config(workplace.config, ["OUTPUT_DIR", str(moved)]), workplace.folder))
    job = plan.jobs[job.name]
    with pytest.raises(UserError, match="WEIGHTS"):
        claim_run_folder(job.config, resume=True)
    prepare_folder(job, plan.root / job.name)
    assert claim_run_folder(job.config, resume=True) == plan.root / job.name


def test_a_report_of_something_else_is_not_overwritten(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    table = workplace.output / "report" / "results.csv"
    table.parent.mkdir(parents=True)
    table.write_text("mine\n")
    with pytest.raises(UserError, match="report of something else"):
        workplace.run()
    assert table.read_text() == "mine\n"
    assert not workplace.started()


def test_only_one_comparison_at_a_time(workplace: Workplace) -> None:
    workplace.output.mkdir()
    with (workplace.output / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another comparison runs"):
            workplace.run()
    assert not workplace.started()


def test_output_folders_that_belong_to_others_are_refused(workplace: Workplace) -> None:
    assert workplace.run("--only", "detect*random") == 0
    with pytest.raises(UserError, match='holds the comparison "compare"'):
        workplace.run("COMPARE.NAME", "another")
    job = next((workplace.output / "jobs").glob("detect-*"))
    (job / "job.json").unlink()
    with pytest.raises(UserError, match="no job of a comparison"):
        workplace.run()
    (job / "job.json").write_text('{"digest": "other"}')
    with pytest.raises(UserError, match="holds another job"):
        workplace.run()


def test_a_deleted_product_is_made_again_only_if_it_is_needed(workplace: Workplace) -> None:
    assert workplace.run() == 0
    before = len(workplace.started())
    product = next((workplace.output / "jobs").glob("convert-*/backbone.pth"))
    product.unlink()
    assert workplace.run() == 0
    assert len(workplace.started()) == before
    detect = next(line.split()[1] for line in workplace.started() if "detect-scenes-clop" in line)
    (workplace.output / "jobs" / detect / "results.json").unlink()
    assert workplace.run() == 0
    assert [line.split()[1].split("-")[0] for line in workplace.started()[before:]] == ["convert", "detect"]


def test_a_run_without_its_product_is_not_taken_for_done(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace.control / "forget-pretrain").touch()
    assert workplace.run() == 1
    assert "it left no model_final.pth" in capsys.readouterr().out
    assert not [line for line in workplace.started() if "convert" in line]


def test_job_folder_round_trip(workplace: Workplace, tmp_path: Path) -> None:
    plan = build_plan(read_matrix(load_compare_config(workplace.config), workplace.folder))
    job = next(iter(plan.jobs.values()))
    folder = tmp_path / job.name
    record = prepare_folder(job, folder)
    assert record["init"] == "random"
    assert not is_done(job, folder)
    (folder / "results.json").write_text("{}")
    assert is_done(job, folder)
    assert prepare_folder(job, folder)["digest"] == job.digest
    assert len(select_jobs(plan, "")) == 6
