from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
import yaml

from clop_det.commands.main import main
from clop_det.conversion.convert import convert_checkpoint
from clop_det.errors import UserError
from clop_det.ranking.calibration_table import read_table

FILES = {"random": "", "clop": "one", "info_nce": "other"}
AP = {"random": 10.0, "clop": 30.0, "info_nce": 20.0}


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, found = tmp_path_factory.mktemp("converted"), {}
    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        torch.save(torchvision.models.resnet18().state_dict(), folder / f"source_{name}.pth")
        found[name] = folder / f"{name}.pth"
        convert_checkpoint(folder / f"source_{name}.pth", found[name])
    return found


@pytest.fixture
def comparison(scenes_root: Path, converted: dict[str, Path], tmp_path: Path) -> Path:
    """A finished comparison as its jobs leave it, of one seed; its test set does not exist."""
    root = tmp_path / "out"
    entry = {"NAME": "a", "LAYOUT": "coco", "ROOT": str(scenes_root), "SPLIT": "train"}
    gone = {"NAME": "b", "LAYOUT": "coco", "ROOT": str(tmp_path / "gone"), "SPLIT": "test"}
    config = {"DATASETS": {"REGISTER": [entry, gone], "TRAIN": ["a"], "TEST": ["b"]}, "SOLVER": {"MAX_ITER": 9}}
    for init, source in FILES.items():
        run = root / "jobs" / f"detect-scenes-{init}-s0"
        run.mkdir(parents=True)
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        (run / "results.json").write_text(json.dumps({"kind": "detection", "metrics": {"bbox/AP": AP[init]}}))
        record = {"kind": "detect", "name": run.name, "init": init, "loss": init.replace("random", ""), "seed": 0}
        record |= {"detection": "scenes", "attempts": [{"seconds": 1e4, "cores": 1, "exit_code": 0}]}
        if source:
            job = root / "jobs" / f"convert-{init}-s0"
            job.mkdir()
            shutil.copy(converted[source], job / "backbone.pth")
            (job / "job.json").write_text(json.dumps({"kind": "convert", "name": job.name, "init": init}))
            record["convert"] = job.name
        (run / "job.json").write_text(json.dumps(record))
    return root


def words(comparison: Path, output: Path) -> list[str]:
    return ["rank", "--calibrate", str(comparison), "--output", str(output), "--boxes", "400", "--size", "32"]


def test_finished_runs_become_a_table_and_are_measured_once(
    comparison: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(comparison, tmp_path / "c")) == 0
    out = capsys.readouterr().out
    assert "3 fine-tunings of 3 settings" in out
    assert (tmp_path / "c" / "calibration.md").read_text() in out
    rows = {row.init: row for row in read_table(tmp_path / "c" / "calibration.csv")}
    assert {name: row.ap for name, row in rows.items()} == AP
    assert {row.arch for row in rows.values()} == {"resnet18"}
    assert len({row.figures["object_logme"] for row in rows.values()}) == 3
    assert all(row.tuning_seconds == 1e4 and 0 < row.ranking_seconds < 1e4 for row in rows.values())
    kept = {path: path.read_bytes() for path in (tmp_path / "c" / "measured").iterdir()}
    table = (tmp_path / "c" / "calibration.csv").read_bytes()
    assert main(words(comparison, tmp_path / "c")) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "c" / "measured").iterdir()} == kept
    assert len(kept) == 3
    assert (tmp_path / "c" / "calibration.csv").read_bytes() == table


def test_rows_of_earlier_comparisons_stay(comparison: Path, tmp_path: Path) -> None:
    main(words(comparison, tmp_path / "c"))
    table = tmp_path / "c" / "calibration.csv"
    lines = list(csv.reader(table.read_text().splitlines()))
    lines.append(["elsewhere", *lines[1][1:]])
    with table.open("w") as file:
        csv.writer(file).writerows(lines)
    main(words(comparison, tmp_path / "c"))
    assert [row.comparison for row in read_table(table)] == ["elsewhere", *["out"] * 3]


def test_a_run_whose_weights_are_gone_is_named_and_left_out(
    comparison: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (comparison / "jobs" / "convert-clop-s0" / "backbone.pth").unlink()
    with pytest.raises(UserError, match="the 2 finished runs hold no three settings"):
        main(words(comparison, tmp_path / "c"))
    assert {row.init for row in read_table(tmp_path / "c" / "calibration.csv")} == {"random", "info_nce"}


def test_code_that_a_run_names_is_not_run_unasked(comparison: Path, tmp_path: Path) -> None:
    for path in comparison.rglob("config.yaml"):
        path.write_text(path.read_text() + "IMPORTS: ['theirs.py']\n")
        (path.parent / "theirs.py").write_text("raise SystemExit('it was run')\n")
    with pytest.raises(UserError, match="--allow-imports"):
        main(words(comparison, tmp_path / "c"))


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--data", "x"], "leave out --data"), (["--set", "SEED", "1"], "leave out --data"), ([], "does not exist")],
)
def test_bad_words_are_one_error(more: list[str], said: str, comparison: Path, tmp_path: Path) -> None:
    given = words(comparison if more else tmp_path / "nowhere", tmp_path / "c")
    with pytest.raises(UserError, match=said):
        main([*given, *more])
    with pytest.raises(UserError, match="needs --data and checkpoints"):
        main(["rank", "--output", str(tmp_path)])
