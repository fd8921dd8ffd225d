"""A calibration: one row for each stored fine-tuning, with the figures of what it began with; a CSV file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from clop_det.errors import UserError
from clop_det.files import check_ordinary, write_text

_MOST_BYTES = 64 << 20
_NUMBERS = ("ap", "tuning_seconds", "ranking_seconds")


@dataclass(frozen=True)
class CalibrationRow:
    """A fine-tuning whose AP is known.

    Attributes:
        comparison: that it is of.
        run: name of its folder.
        task: what must be equal for APs to be compared: data, detector and schedule.
        data: names of the training sets, and the first digits of the digest of the objects that were looked at.
        init, loss, label_fraction: what it began with; "" where there is none.
        setting: what repetitions under several seeds share.
        ap: in percent.
        tuning_seconds: core-seconds of the fine-tuning (wall time times cores); NaN: not known.
        ranking_seconds: CPU seconds of encoding and measuring.
        figures: measure -> value.
    """

    comparison: str
    run: str
    task: str
    data: str
    init: str
    loss: str
    label_fraction: str
    setting: str
    seed: int
    arch: str
    ap: float
    tuning_seconds: float
    ranking_seconds: float
    figures: dict[str, float] = field(default_factory=dict)


FACTS = tuple(item.name for item in fields(CalibrationRow) if item.name != "figures")


def write_table(rows: Sequence[CalibrationRow], path: Path) -> None:
    """Write the table; measures that a row lacks are empty."""
    measures = list(dict.fromkeys(name for row in rows for name in row.figures))
    content = io.StringIO()
    writer = csv.writer(content, lineterminator="\n")
    writer.writerow([*FACTS, *measures])
    for row in rows:
        facts = asdict(row)
        writer.writerow([*(facts[name] for name in FACTS), *(row.figures.get(name, "") for name in measures)])
    write_text(path, content.getvalue())


def read_table(path: Path) -> list[CalibrationRow]:
    """Read a table.

    Raises:
        UserError: no such file, or no calibration; the line that is wrong is named.
    """
    check_ordinary(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} has more than {_MOST_BYTES >> 20} MiB; a calibration has a line for each run.")
        lines = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read the calibration {path}: {error}.") from error
    if not lines or tuple(lines[0][: len(FACTS)]) != FACTS:
        raise UserError(f"{path} is no calibration: its first line must begin with {', '.join(FACTS)}.")
    return [_row(line, lines[0], f"line {number} of {path}") for number, line in enumerate(lines[1:], 2) if line]


def _row(line: Sequence[str], header: Sequence[str], where: str) -> CalibrationRow:
    if len(line) != len(header):
        raise UserError(f"{where} has {len(line)} fields; it must have {len(header)}, as the first line does.")
    facts = dict(zip(FACTS, line, strict=False))
    measures = {name: text for name, text in zip(header[len(FACTS) :], line[len(FACTS) :], strict=True) if text}
    try:
        numbers = {name: float(facts.pop(name)) for name in _NUMBERS}
        figures = {name: float(text) for name, text in measures.items()}
        seed = int(facts.pop("seed"))
    except ValueError as error:
        raise UserError(f"{where} holds a text where a number must be: {error}.") from error
    if not all(map(math.isfinite, [numbers["ap"], *figures.values()])):
        raise UserError(f"{where} holds a number that is not finite. Remove the line.")
    return CalibrationRow(**facts, **numbers, seed=seed, figures=figures)  # type: ignore[arg-type]
