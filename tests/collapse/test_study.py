from __future__ import annotations

import csv
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from clop_det.collapse.animation import Scene
from clop_det.collapse.study import StudySettings, run_study
from clop_det.collapse.sweeps import Size
from clop_det.errors import UserError

TINY = Size(count=16, dim=16, classes=4, steps=60)
SETTINGS = StudySettings(
    ratios=(0.5, 1.0, 1.5), temperatures=(1.0,), seeds=(0,), size=TINY, clop_size=TINY, phase_size=TINY, grid=3
)
TOOL = Path(__file__).resolve().parents[2] / "tools" / "simulate_collapse.py"


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collapse") / "new"
    files = run_study(folder, SETTINGS, Scene(count=12, steps=6))
    assert sorted(files) == sorted(folder.iterdir())
    return folder


def test_the_csv_holds_every_run(output: Path) -> None:
    rows = list(csv.DictReader((output / "collapse.csv").open(encoding="utf-8")))
    assert len(rows) == 3 * (3 + 6)
    ranks = {
        (r["rule"], r["labelled_fraction"], r["weight"], r["learning_rate_over_temperature"]): float(
            r["effective_rank"]
        )
        for r in rows
    }
    assert ranks["ambient", "0.0", "0.0", "0.5"] == pytest.approx(15, abs=0.1)
    assert ranks["ambient", "0.0", "0.0", "1.5"] == pytest.approx(1, abs=0.01)
    assert ranks["free", "0.0", "0.0", "1.5"] > 14
    assert ranks["ambient", "1.0", "1.0", "1.5"] > 3
    phase = list(csv.DictReader((output / "phase.csv").open(encoding="utf-8")))
    assert len(phase) == 2 * 20 * 3


def test_the_table_says_what_the_csv_says(output: Path) -> None:
    table = (output / "table.md").read_text(encoding="utf-8")
    assert "| 16 | ambient | 1 | 0% | 0 | 15.0 | 1.0 |" in table
    assert "turns unstable: 1.071 at T = 1." in table  # (n - 1) / (n - 2)
    assert "| 0.05 | none up to 20 | none: η past 1.05 T |" in table


def test_the_pictures_open(output: Path) -> None:
    for name in ("learning_rate", "phase", "sphere"):
        image = Image.open(output / f"{name}.png")
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(1 << 24)) > 50  # drawn, not blank
        assert (output / f"{name}.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    animation = Image.open(output / "sphere.gif")
    assert animation.n_frames == 4
    assert animation.width == 800


def test_the_same_settings_give_the_same_files(output: Path, tmp_path: Path) -> None:
    run_study(tmp_path, SETTINGS, Scene(count=12, steps=6))
    for file in output.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_an_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    with pytest.raises(UserError, match="cannot write .*file"):
        run_study(tmp_path / "file", SETTINGS, Scene(count=12, steps=2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperatures", "0"], "--temperatures 0.0: must"),
        (["--temperatures", "1", "nan"], "--temperatures nan: must"),
        (["--temperatures", "inf"], "--temperatures inf: must"),
        (["--seeds", "-1"], "--seeds -1: must"),
        (["--seeds", "0", "99999999999999999999"], "--seeds 99999999999999999999: must"),
    ],
)
def test_the_tool_refuses_bad_values(arguments: list[str], message: str) -> None:
    main = runpy.run_path(str(TOOL))["main"]
    with pytest.raises(UserError, match=message):
        main(arguments)


def test_the_tool_says_so_in_one_line() -> None:
    done = subprocess.run([sys.executable, str(TOOL), "--seeds", "-1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --seeds -1")
    assert "Traceback" not in done.stderr
