"""A calibration as one call: measure what finished fine-tunings began with, add them to the table, judge the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clop_det.comparison.calibration.measuring import Say, calibration_rows
from clop_det.errors import UserError
from clop_det.files import write_text
from clop_det.ranking.calibration_report import markdown
from clop_det.ranking.calibration_table import read_table, write_table
from clop_det.ranking.choosing import Calibration, calibration

TABLE, PAGE = "calibration.csv", "calibration.md"


@dataclass(frozen=True)
class Calibrated:
    """What was found, and the files that were written.

    Attributes:
        left_out: fine-tunings -> why they have no row.
    """

    calibration: Calibration
    left_out: dict[str, str]
    table: Path
    page: Path


def calibrate(
    folders: Sequence[Path],
    output: Path,
    *,
    boxes: int = 1000,
    side: int = 128,
    seed: int = 0,
    allow_imports: bool = False,
    say: Say = lambda line: None,
) -> Calibrated:
    """Add the finished fine-tunings of comparisons to the calibration in `output`, and choose the rule anew.

    Args:
        folders: of comparisons; rows of earlier calls with other folders stay in the table.
        output: folder of calibration.csv and calibration.md, and of what was measured.
        boxes, side, seed: see `clop_det.ranking.ranking.rank`.
        allow_imports: whether to import what the runs' configs name, which runs its code.
        say: called with a line of progress.

    Raises:
        UserError: a folder holds no runs, or there is nothing to choose from.
    """
    rows, left_out = calibration_rows(folders, output, boxes, side, seed, allow_imports, say)
    if not rows and left_out:
        raise UserError(f"none of the {len(left_out)} finished runs gives a row: {next(iter(left_out.values()))}")
    table = output / TABLE
    fresh = {(row.comparison, row.run) for row in rows}
    if table.is_file():
        rows = [*(row for row in read_table(table) if (row.comparison, row.run) not in fresh), *rows]
    write_table(rows, table)
    found = calibration(rows)
    write_text(output / PAGE, markdown(found))
    return Calibrated(found, left_out, table, output / PAGE)
