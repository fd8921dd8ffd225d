"""Figures of lines: figures over the iterations of fine-tuning, and against the share of labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib import figure as plots
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from clop_det.comparison.report.labels import (
    LIMIT,
    by_fraction,
    conditions,
    detections,
    fraction_suffix,
    label_of,
    left_out,
    legend,
    marked,
    of_detection,
    on_axis,
    styled,
)
from clop_det.comparison.report.style import Ink, Picture, colours, render
from clop_det.comparison.report.tables import percent
from clop_det.comparison.results.rows import Row
from clop_det.comparison.results.statistics import Interval, mean_interval
from clop_det.comparison.results.summary import Comparison, Summary
from clop_det.figures import ACCURACY, BOX, CATALOGUE, PRECISION, PROBE

_FEW = {1: "One seed.", 2: "Mean of two seeds."}


def metric_over_iterations(comparison: Comparison) -> list[Picture]:
    """AP at every evaluation of fine-tuning: mean over seeds, band = 95 % interval, from three seeds."""
    figure = CATALOGUE.find(CATALOGUE.names(PRECISION)[0])
    title = f"{figure.label} while fine-tuning"
    return _over_iterations(comparison, f"{BOX}/{figure.name}", "ap_over_iterations", title, figure.label)


def probe_over_iterations(comparison: Comparison) -> list[Picture]:
    """kNN accuracy of the backbone at the same evaluations: what fine-tuning does to the features."""
    figure = CATALOGUE.find(CATALOGUE.names(ACCURACY)[0])
    title, unit = f"{figure.label} accuracy of the backbone", f"{figure.label} {figure.unit}"
    return _over_iterations(comparison, f"{PROBE}/{figure.name}", "knn_over_iterations", title, unit)


def metric_against_fraction(comparison: Comparison) -> list[Picture]:
    """The metric against the share of labels; initialisations that use no labels are level lines."""
    pictures = []
    for detection in detections(comparison):
        group = [s for s in of_detection(comparison, detection) if comparison.metric in s.metrics]
        shares = sorted({s.setting.label_fraction for s in group if s.setting.label_fraction is not None})
        if len(shares) > 1:
            pictures.append(_fraction_picture(comparison, group, shares, detection))
    return pictures


def _over_iterations(comparison: Comparison, key: str, name: str, title: str, unit: str) -> list[Picture]:
    pictures = []
    for detection in filter(None, detections(comparison)):
        for fraction, settings in by_fraction(comparison):
            group = [s for s in settings if s.setting.detection == detection and _series(s.rows, key)]
            if max((len(_series(s.rows, key)) for s in group), default=0) < 2:
                continue  # one evaluation makes no curve
            draw = _curves(comparison, group[:LIMIT], key, unit)
            place = conditions(comparison, detection, fraction)
            suffix = f"_{detection}{fraction_suffix(comparison, fraction)}"
            band = "Mean over seeds; the band is the 95 % interval of the mean."
            caption = band if comparison.most_seeds > 2 else _FEW.get(comparison.most_seeds, "")
            pictures.append(render(name + suffix, f"{title}{place}", caption + left_out(len(group)), draw))
    return pictures


def _curves(
    comparison: Comparison, group: Sequence[Summary], key: str, unit: str
) -> Callable[[plots.Figure, Ink], None]:
    palette = colours(comparison.inits)
    series = {label_of(summary, group): _series(summary.rows, key) for summary in group}
    inits = {label_of(summary, group): summary.setting.init for summary in group}
    marks = {label_of(summary, group): marked(comparison, [summary.setting]) for summary in group}

    def draw(figure: plots.Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for style, (label, points) in styled(series, inits):
            colour = palette[inits[label]]
            intervals = {x: mean_interval(list(seeds.values())) for x, seeds in sorted(points.items())}
            _plot(axes, intervals, style, colour, label, marks[label])
        axes.set_xlabel("iterations")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_ylabel(unit)
        axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
        legend(axes)

    return draw


def _fraction_picture(
    comparison: Comparison, group: Sequence[Summary], shares: Sequence[float], detection: str
) -> Picture:
    palette, metric = colours(comparison.inits), comparison.catalogue.find(comparison.metric)
    lines: dict[tuple[str, Any], list[Summary]] = {}
    for summary in group:
        setting = summary.setting
        lines.setdefault((setting.init, (setting.pretrain_grid, setting.detection_grid)), []).append(summary)

    def draw(figure: plots.Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for items in list(lines.values())[:LIMIT]:
            colour, label = palette[items[0].setting.init], items[0].setting.label
            intervals = {s.setting.label_fraction: s.metrics[comparison.metric] for s in items}
            if None in intervals:
                axes.axhline(
                    intervals[None].mean, color=colour, linestyle="--", linewidth=1.6, label=f"{label} (no labels)"
                )
                continue
            known = {x: intervals[x] for x in sorted(x for x in intervals if x is not None)}
            _plot(axes, known, "-", colour, label, marked(comparison, [s.setting for s in items]))
        axes.set_xscale("log")
        axes.set_xticks(shares, [percent(share) for share in shares])
        axes.minorticks_off()
        axes.set_xlabel("labelled share of the pretraining images")
        axes.set_ylabel(on_axis(metric))
        legend(axes)

    title = f"{metric.label} against labels{conditions(comparison, detection, None)}"
    caption = "Mean over seeds with 95 % interval; dashed: initialisations that see no labels."
    caption += left_out(len(lines))
    return render(f"against_labels_{detection or 'pretraining'}", title, caption, draw)


def _plot(axes: Axes, intervals: Mapping[float, Interval], style: str, colour: str, label: str, gid: str) -> None:
    """A line through the means, and a band where there are at least three seeds (of two, the interval says nothing)."""
    xs = list(intervals)
    axes.plot(
        xs, [intervals[x].mean for x in xs], style, color=colour, label=label, marker="o", markersize=3.5, gid=gid
    )
    wide = [x for x in xs if intervals[x].n > 2]
    low, high = [intervals[x].low for x in wide], [intervals[x].high for x in wide]
    axes.fill_between(wide, low, high, color=colour, alpha=0.16, linewidth=0, gid=gid)


def _series(rows: Iterable[Row], key: str) -> dict[float, dict[int, float]]:
    points: dict[float, dict[int, float]] = {}
    for row in rows:
        for entry in row.history:
            value = entry.get(key)
            if isinstance(value, (int, float)) and math.isfinite(value):
                # Steps are counted from 0, so a line after step i is about i + 1 of them; the very first is about none.
                done = entry["iteration"] and entry["iteration"] + 1
                points.setdefault(done, {})[row.seed] = float(value)
    return points
