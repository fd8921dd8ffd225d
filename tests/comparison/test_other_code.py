"""Jobs of other code: a start asks, --keep marks, --rerun moves aside; nothing is mixed without a word."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from clop_det.comparison.experiment import Asked, compare
from clop_det.comparison.results.summary import read_comparison
from clop_det.errors import UserError
from tests.comparison.workplace import ROOT, Workplace, results

LOSS = "clop_det/losses/clop.py"


def edit_code_of(workplace: Workplace, pattern: str, file: str = LOSS) -> list[Path]:
    """Make the jobs that match look as if `file` had another content when they ran."""
    folders = sorted((workplace.output / "jobs").glob(pattern))
    for folder in folders:
        record = json.loads((folder / "job.json").read_text())
        record["code"]["files"][file] = "0" * 64
        record["code"]["commit"] = "89abcdef" * 5
        (folder / "job.json").write_text(json.dumps(record))
    assert folders
    return folders


def snapshot(folder: Path) -> dict[str, Any]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in sorted(folder.rglob("*"))}


def plan_of(workplace: Workplace) -> dict[str, Any]:
    return json.loads((workplace.output / "plan.json").read_text())


def test_an_edited_loss_stops_a_start_and_names_the_file(workplace: Workplace, tmp_path: Path) -> None:
    """The package itself is edited: a copy of it."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "clop_det", copy / "clop_det", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs" / "reference", copy / "docs" / "reference")  # what --help shows
    workplace.write({"INITS": ["clop", "supcon"], "BASELINE": "supcon", "DETECTION": []})

    def start(*arguments: str) -> tuple[int, str]:
        process = workplace.start(*arguments, root=copy)
        output, _ = process.communicate(timeout=600)
        return process.returncode, output

    code, output = start()
    assert code == 0, output
    (copy / "clop_det" / "losses" / "unrelated.py").write_text("LIMIT = 3\n")
    with (copy / "clop_det" / "losses" / "supcon.py").open("a") as file:
        file.write("\n# edited\n")
    before = snapshot(workplace.output)
    code, output = start()
    assert code == 2, output
    (error,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert "1 finished job of this comparison ran under other code" in error
    assert "clop_det/losses/supcon.py." in error
    assert "--keep" in error
    assert "--rerun" in error
    assert snapshot(workplace.output) == before
    assert len(workplace.started()) == 2


def test_keep_lets_finished_jobs_stand_and_says_so(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert workplace.run() == 0
    (folder,) = edit_code_of(workplace, "pretrain-clop-*")
    before, files = len(workplace.started()), snapshot(workplace.output)
    with pytest.raises(UserError, match=rf"{LOSS}\. Add --keep"):
        workplace.run()
    assert snapshot(workplace.output) == files
    capsys.readouterr()
    assert workplace.run("--dry-run") == 0
    out = capsys.readouterr().out
    assert f"commit 89abcdef89: {LOSS}" in out.replace(" (with changes that were not committed)", "")
    assert "6 jobs, 0 to run" in out
    assert workplace.run("--keep") == 0
    assert len(workplace.started()) == before
    assert plan_of(workplace)["kept"][folder.name]["files"] == [LOSS]
    report = workplace.output / "report"
    for name in ("results.md", "report.html"):
        text = (report / name).read_text()
        said = text.index("come from different versions of the code")
        assert said < text.index("In short" if name.endswith("html") else "initialisation")
        assert LOSS in text
        assert "clop †" in text
        assert "random †" not in text
    assert "These figures come from different versions" in (report / "results.tex").read_text().splitlines()[0]
    rows = {row["init"]: row for row in results(workplace)}
    assert "commit 89abcdef89" in rows["clop"]["code"]
    assert rows["random"]["code"] == ""
    assert "Jobs whose code differs from that of the last start: 1." in capsys.readouterr().out


def test_rerun_moves_the_old_folders_aside_and_runs_what_is_built_on_them(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert workplace.run() == 0
    (folder,) = edit_code_of(workplace, "pretrain-clop-*")
    before = workplace.started()
    (folder / "mine.txt").write_text("a note")
    assert workplace.run("--dry-run", "--rerun") == 0
    out = capsys.readouterr().out
    assert "6 jobs, 4 to run" in out
    assert not [line for line in out.splitlines() if line.startswith("resume")]  # the folders are moved aside first
    assert folder.is_dir()
    assert workplace.run("--rerun") == 0
    again = workplace.started()[len(before) :]
    assert [line.split()[1].split("-")[0] for line in again] == ["pretrain", "convert", "detect", "inspect"]
    assert all(line.startswith("start ") and "clop" in line for line in again)
    (place,) = (workplace.output / "moved_aside").iterdir()
    assert str(place) in capsys.readouterr().out
    assert len(list(place.iterdir())) == 4
    assert (place / folder.name / "mine.txt").read_text() == "a note"
    assert plan_of(workplace)["kept"] == {}
    comparison = read_comparison([workplace.output])
    assert not comparison.code.notes
    assert not any(place in run.folder.parents for run in comparison.runs.values())
    assert not [line for line in comparison.remarks if "left out" in line]
    assert workplace.run() == 0
    assert len(workplace.started()) == len(before) + 4


def test_keep_and_rerun_exclude_each_other(workplace: Workplace) -> None:
    with pytest.raises(SystemExit) as left:
        workplace.run("--keep", "--rerun")
    assert left.value.code == 2
    with pytest.raises(UserError, match="keep and rerun exclude each other"):
        compare(str(workplace.config), (), Asked(keep=True, rerun=True))
    with pytest.raises(UserError, match="the launcher is 'cloud'; it must be one of local, slurm"):
        compare(str(workplace.config), (), Asked(launcher="cloud"))


def test_a_job_that_has_begun_resumes_on_request_and_is_marked(workplace: Workplace) -> None:
    fault = workplace.control / "fail-pretrain-clop"
    fault.touch()
    assert workplace.run() == 1
    (folder,) = edit_code_of(workplace, "pretrain-clop-*")
    fault.unlink()
    with pytest.raises(UserError, match="1 begun job of this comparison ran under other code"):
        workplace.run()
    assert workplace.run("--keep") == 0
    assert f"resume {folder.name}" in workplace.started()
    record = json.loads((folder / "job.json").read_text())
    assert [code["files"][LOSS] for code in record["earlier_code"]] == ["0" * 64]
    assert record["code"]["files"][LOSS] != "0" * 64
    assert {row["init"]: row["code"] for row in results(workplace)} == {
        "random": "",
        "clop": "began under other code than it ended under",
    }
    # The code of now is that of the last attempt: a further start has nothing to ask.
    assert workplace.run() == 0


def test_rows_of_different_code_are_marked_without_any_plan(workplace: Workplace, tmp_path: Path) -> None:
    assert workplace.run() == 0
    edit_code_of(workplace, "detect-scenes-clop-*", "clop_det/detection/run.py")
    (workplace.output / "plan.json").unlink()
    comparison = read_comparison([workplace.output])
    labels = [comparison.label(summary) for summary in comparison.summaries]
    assert sum(label.endswith("†") for label in labels) == 1
    assert "clop_det/detection/run.py" in comparison.code.notes[0]


def test_reports_of_run_folders_that_say_nothing_of_code_are_what_they_were(workplace: Workplace) -> None:
    assert workplace.run() == 0
    for path in (workplace.output / "jobs").glob("*/job.json"):
        record = json.loads(path.read_text())
        del record["code"], record["reads"]
        path.write_text(json.dumps(record))
    plan = plan_of(workplace)
    del plan["kept"]
    (workplace.output / "plan.json").write_text(json.dumps(plan))
    comparison = read_comparison([workplace.output])
    assert not comparison.code.runs
    assert not comparison.code.notes
    assert {row.status for row in comparison.rows} == {"done"}
    # Beside runs that say their code they are marked.
    (folder,) = (workplace.output / "jobs").glob("detect-scenes-clop-*")
    record = json.loads((folder / "job.json").read_text())
    (folder / "job.json").write_text(json.dumps({**record, "code": {"commit": "1", "files": {"a.py": "1"}}}))
    comparison = read_comparison([workplace.output])
    assert "does not say which code it ran" in comparison.code.runs.values()
    assert "Rows marked †" in comparison.code.notes[0]


def test_finished_runs_of_an_earlier_version_are_named(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert workplace.run() == 0
    for folder in list((workplace.output / "jobs").iterdir()):
        record = json.loads((folder / "job.json").read_text())
        for key in ("code", "reads"):
            del record[key]
        record["digest"] = "f" * 64
        (folder / "job.json").write_text(json.dumps(record))
        folder.rename(folder.with_name(f"{folder.name.rsplit('-', 1)[0]}-ffffffff"))
    capsys.readouterr()
    assert workplace.run("--dry-run") == 0
    out = capsys.readouterr().out
    assert "note: 3 jobs ran here before under another identity" in out
    assert "how a version before this one named its jobs" in out
    assert "6 jobs, 6 to run" in out
