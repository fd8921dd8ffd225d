"""Figures over one grid key of several comparisons, side by side: a picture for a page of its own."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib import figure as plots

from clop_det.comparison.report.labels import on_axis
from clop_det.comparison.report.maps import CURVE_CAPTION, Points, draw_points, grid_point, grid_points, short_name
from clop_det.comparison.report.style import Ink, Picture, colours, render
from clop_det.comparison.report.tables import percent
from clop_det.comparison.results.rows import GridPoint, Setting, grid_text
from clop_det.comparison.results.summary import Comparison, Summary
from clop_det.errors import UserError
from clop_det.figures import Figure

_LEGEND_ENTRY = 2.1  # inches


def comparison_panels(comparison: Comparison, key: str, columns: Sequence[str]) -> dict[str, list[Points]]:
    """The points of each column, apart for each setting of further grid keys that vary.

    Returns:
        what the further keys are set to, as ", ims_per_batch 16" (empty where none varies) -> points by column.

    Raises:
        UserError: no finished run has a value of `key` and one of the figures.
    """
    placed = [summary for summary in comparison.summaries if key in dict(grid_point(summary.setting))]
    groups: dict[GridPoint, list[Summary]] = {}
    for summary in placed:
        groups.setdefault(_others(summary.setting, key), []).append(summary)
    panels = {}
    for other, group in groups.items():
        points = [grid_points(group, key, column, _label) for column in columns]
        if any(points):
            panels[f", {grid_text(other)}" if len(groups) > 1 else ""] = points
    if not panels:
        raise UserError(f"{comparison.name} has no finished run with a value of {key} and {', '.join(columns)}.")
    return panels


def _others(setting: Setting, key: str) -> GridPoint:
    return tuple(pair for pair in grid_point(setting) if pair[0] != key)


def _label(setting: Setting) -> str:
    return f"{setting.init} {percent(setting.label_fraction, 'labels')}".rstrip()


def sheet(panels: dict[str, list[Points]], key: str, figures: Sequence[Figure]) -> Picture:
    """One row of panels a figure, one column a comparison."""
    labels = list(dict.fromkeys(label for column in panels.values() for points in column for label in points))
    palette = colours(labels)

    def draw(figure: plots.Figure, ink: Ink) -> None:
        axes = figure.subplots(len(figures), len(panels), sharey="row", squeeze=False)
        for column, (title, rows) in enumerate(panels.items()):
            axes[0][column].set_title(title)
            axes[-1][column].set_xlabel(short_name(key))
            for row, points in enumerate(rows):
                if points:
                    draw_points(axes[row][column], points, palette)
        for row, shown in enumerate(figures):
            axes[row][0].set_ylabel(textwrap.fill(on_axis(shown), 20))
        handles = [
            axes[0][0].plot([], [], "o-", color=palette[label], label=label, markersize=4)[0] for label in labels
        ]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(4, int(size[0] / _LEGEND_ENTRY)))

    size = (1.0 + 3.2 * len(panels), 0.8 + 2.1 * len(figures))
    return render("grid_curves", f"Figures over {short_name(key)}", CURVE_CAPTION, draw, size)
