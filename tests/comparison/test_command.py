"""The command: dry runs, patterns, refusals."""

from __future__ import annotations

import re

import pytest

from clop_det.commands.compare import main
from clop_det.errors import UserError
from tests.comparison.workplace import Workplace, detect_config, pretrain_config, results


def test_dry_run_runs_nothing(workplace: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    assert workplace.run("--dry-run") == 0
    out = capsys.readouterr().out
    assert "6 jobs, 6 to run" in out
    assert "pretrain-clop-10pct-s0" in out
    assert "8 steps" in out
    assert not workplace.output.exists()
    assert not workplace.started()
    workplace.run()
    capsys.readouterr()
    workplace.run("--dry-run", "COMPARE.SEEDS", "[0, 1]")
    out = capsys.readouterr().out
    assert "10 jobs, 4 to run, about 0:0" in out
    assert out.count("done ") == 6


def test_measuring_runs_the_first_steps_and_leaves_nothing(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace.control / "slow").touch()  # 0.05 s a step
    (workplace.folder / "pretrain.yaml").write_text(pretrain_config(1000))
    (workplace.folder / "detect.yaml").write_text(detect_config(2000))
    workplace.write({"SEEDS": [0, 1]})
    assert workplace.run("--dry-run", "--measure") == 0
    out = capsys.readouterr().out
    seconds = [60 * int(minutes) + int(rest) for minutes, rest in re.findall(r"steps +about (\d+):(\d\d)", out)]
    assert len(seconds) == 6
    assert all(45 <= value <= 90 for value in seconds[1::3])  # pretraining: 1000 steps
    assert len(workplace.started()) == 2  # one of each kind, not one of each seed
    assert not workplace.output.exists()
    with pytest.raises(UserError, match="--measure belongs to --dry-run"):
        workplace.run("--measure")


def test_only_takes_a_pattern_and_what_it_needs(workplace: Workplace) -> None:
    assert workplace.run("--only", "detect*clop*") == 0
    assert sorted(line.split()[1].split("-")[0] for line in workplace.started()) == ["convert", "detect", "pretrain"]
    assert {row["init"]: row["status"] for row in results(workplace)} == {"random": "missing", "clop": "done"}
    with pytest.raises(UserError, match="matches no job"):
        workplace.run("--only", "nothing")


def test_bad_arguments(workplace: Workplace) -> None:
    with pytest.raises(UserError, match="--jobs is 0"):
        workplace.run("--jobs", "0")
    with pytest.raises(UserError, match="neither a file nor the name"):
        main(["--config-file", "absent.yaml"])
    process = workplace.start("COMPARE.SEEDS", "[]")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "error: COMPARE.SEEDS" in output
    assert "Traceback" not in output
