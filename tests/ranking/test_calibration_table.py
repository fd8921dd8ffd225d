from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from clop_det.errors import UserError
from clop_det.ranking.calibration_table import read_table, write_table
from tests.ranking.stored import stored


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = stored(seeds=1)
    rows[0] = replace(rows[0], init='a "name", with commas', figures={"lidar": 0.1 + 0.2}, seed=-3)
    write_table(rows, tmp_path / "c.csv")
    assert read_table(tmp_path / "c.csv") == rows
    unknown = replace(rows[0], tuning_seconds=math.nan)
    write_table([unknown], tmp_path / "c.csv")
    assert math.isnan(read_table(tmp_path / "c.csv")[0].tuning_seconds)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("comparison,run", "run,comparison", "is no calibration: its first line must begin with comparison, run"),
        (",tiny,", ",", "line 2 of .* has 17 fields; it must have 18"),
        (",100.0,", ",many,", "line 2 of .* a text where a number"),
        (",100.0,2.0,", ",100.0,2.0,inf", "line 2 of .* not finite"),
    ],
)
def test_a_damaged_table_names_the_line(old: str, new: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    write_table(stored(seeds=1)[:1], path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1) if "inf" not in new else text.rpartition(",")[0] + ",inf\n")
    with pytest.raises(UserError, match=said):
        read_table(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the calibration"):
        read_table(tmp_path / "none.csv")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="no ordinary file"):
        read_table(tmp_path / "pipe")
