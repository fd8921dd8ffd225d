"""Figures over one grid setting from the results.csv of several comparisons, a panel each: an own picture for a page.

python -m clop_det.comparison.report.grid_curves sgd/report/results.csv momentum/report/results.csv --output study
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from clop_det.commands.common import add_traceback_flag, run_tool
from clop_det.comparison.report.labels import metric_name
from clop_det.comparison.report.style import Ink, Picture, colours, render
from clop_det.comparison.report.tables import percent
from clop_det.comparison.results.statistics import mean_interval
from clop_det.errors import UserError
from clop_det.files import atomic_write, write_text

# label -> place on the axis -> seeds' figures by metric
Curves = dict[str, dict[float, dict[str, list[float]]]]
_GRID_KEY = re.compile(r"[A-Z_]+\.[A-Z_.]+$")
_LEGEND_ENTRY = 2.1  # inches
METRICS = ("embedding_rankme", "embedding_mean_norm", "knn_top1")


def main(argv: list[str] | None = None) -> int:
    """Read the tables, write OUTPUT.svg and OUTPUT.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path, metavar="results.csv")
    parser.add_argument("--x", default="SOLVER.BASE_LR", metavar="KEY", help="grid key of the horizontal axis")
    parser.add_argument("--metrics", nargs="+", default=list(METRICS), metavar="COLUMN", help="a row of panels each")
    parser.add_argument("--output", type=Path, required=True, help="path of the picture without its ending")
    add_traceback_flag(parser)
    args = parser.parse_args(argv)
    panels = {
        _title(path) + others: curves
        for path in args.tables
        for others, curves in read_curves(path, args.x, args.metrics).items()
    }
    picture = draw_curves(panels, args.x, args.metrics)
    write_text(args.output.with_suffix(".svg"), picture.svg)
    with atomic_write(args.output.with_suffix(".png")) as file:
        file.write(picture.png)
    print(f"written: {args.output.with_suffix('.svg')}, {args.output.with_suffix('.png')}")
    return 0


def read_curves(path: Path, key: str, metrics: Sequence[str]) -> dict[str, Curves]:
    """The finished rows of a results.csv, by initialisation and labels, apart for each setting of further grid keys.

    Returns:
        what the further keys are set to, as ", IMS_PER_BATCH 16" (empty where none varies) -> the curves.

    Raises:
        UserError: no such file, a column is missing, no run has ended, or a value of `key` is no number.
    """
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror}. Give a results.csv of a comparison's report."
        ) from error
    missing = [column for column in (key, *metrics) if not rows or column not in rows[0]]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}.")
    varied = [
        column
        for column in rows[0]
        if _GRID_KEY.match(column) and column != key and len({row[column] for row in rows}) > 1
    ]
    panels: dict[str, Curves] = defaultdict(lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list))))
    # An initialisation outside the grid has no place on the axis.
    placed = [row for row in rows if row["status"] == "done" and all(row[column] for column in (key, *varied))]
    for row in sorted(placed, key=lambda row: [_order(row[column]) for column in varied]):
        curves = panels["".join(f", {column.rsplit('.', 1)[-1]} {row[column]}" for column in varied)]
        fraction = f" {percent(float(row['label_fraction']), 'labels')}" if row["label_fraction"] else ""
        for metric in metrics:
            if row[metric]:
                curves[row["init"] + fraction][_number(row[key], path, key)][metric].append(float(row[metric]))
    if not panels:
        raise UserError(f"{path} has no finished run with a value of {key}.")
    return panels


def _number(text: str, path: Path, key: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{path}: {key} has the value {text!r}; the axis takes numbers alone.") from None


def _order(text: str) -> tuple[float, str]:
    """Numbers by size, words after them by the alphabet."""
    try:
        return float(text), ""
    except ValueError:
        return math.inf, text


def draw_curves(panels: Mapping[str, Curves], key: str, metrics: Sequence[str]) -> Picture:
    """One row of panels a metric, one column a table; lines join means over seeds, dots are seeds."""
    labels = list(dict.fromkeys(label for curves in panels.values() for label in curves))
    palette = colours(labels)

    def draw(figure: Figure, ink: Ink) -> None:
        axes = figure.subplots(len(metrics), len(panels), sharey="row", squeeze=False)
        for column, (title, curves) in enumerate(panels.items()):
            axes[0][column].set_title(title)
            axes[-1][column].set_xlabel(key)
            for row, metric in enumerate(metrics):
                for label, points in curves.items():
                    xs = sorted(x for x in points if points[x][metric])
                    means = [mean_interval(points[x][metric]).mean for x in xs]
                    axes[row][column].plot(xs, means, "o-", color=palette[label], markersize=4)
                    for x in xs:
                        axes[row][column].plot(
                            [x] * len(points[x][metric]), points[x][metric], ".", color=palette[label]
                        )
                axes[row][column].set_xscale("log")
        for row, metric in enumerate(metrics):
            axes[row][0].set_ylabel(textwrap.fill(metric_name(metric), 20))
        handles = [
            axes[0][0].plot([], [], "o-", color=palette[label], label=label, markersize=4)[0] for label in labels
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(4, int(size[0] / _LEGEND_ENTRY)))

    size = (1.0 + 3.2 * len(panels), 0.8 + 2.1 * len(metrics))
    return render("grid_curves", f"Figures over {key}", "Lines join the means over seeds; dots are seeds.", draw, size)


def _title(path: Path) -> str:
    """The comparison's folder: a report lies in its report/."""
    folder = path.resolve().parent
    return (folder.parent if folder.name == "report" else folder).name


if __name__ == "__main__":
    run_tool(main)
