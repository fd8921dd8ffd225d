"""Figures over settings: learning rate x batch size heat maps, curves over one setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib import figure as plots
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from clop_det.comparison.report.labels import conditions, legend, marked, on_axis
from clop_det.comparison.report.style import Ink, Picture, colours, render
from clop_det.comparison.results.rows import Setting
from clop_det.comparison.results.statistics import mean_interval
from clop_det.comparison.results.summary import Comparison, Summary
from clop_det.figures import COLLAPSE, RANK, Figure

_COLUMNS = 3  # panels side by side
_PANELS = 9
CURVE_CAPTION = "Lines join the means over seeds; small dots are seeds."
Points = dict[str, dict[str, list[float]]]  # label -> value of a grid key -> the seeds' figures


def grid_figures(comparison: Comparison) -> list[Picture]:
    """For every detection config and label fraction, the metric and measures of collapse over the grid."""
    pictures = []
    groups: dict[tuple[str, float | None], list[Summary]] = {}
    for summary in comparison.summaries:
        if grid_point(summary.setting):
            key = summary.setting.detection, summary.setting.label_fraction
            groups.setdefault(key, []).append(summary)
    for (detection, fraction), group in groups.items():
        keys = list(dict.fromkeys(key for summary in group for key, _ in grid_point(summary.setting)))
        # Beside the comparison's metric: what collapses with the learning rate.
        for column in dict.fromkeys((comparison.metric, *comparison.catalogue.names(RANK, COLLAPSE))):
            shown = [summary for summary in group if column in summary.metrics]
            metric, where = comparison.catalogue.find(column), conditions(comparison, detection, fraction)
            name = f"{column}_over_grid_{detection or 'pretraining'}_{fraction if fraction is not None else 'all'}"
            if len(shown) > 1 and len(keys) == 1:
                pictures.append(_curve(comparison, shown, keys[0], metric, name, where))
            elif len(shown) > 1 and len(keys) == 2:
                pictures.append(_heat_maps(comparison, shown, (keys[0], keys[1]), metric, name, where))
    return pictures


def _heat_maps(
    comparison: Comparison, group: Sequence[Summary], keys: tuple[str, str], metric: Figure, name: str, where: str
) -> Picture:
    inits = list(dict.fromkeys(summary.setting.init for summary in group))[:_PANELS]
    cells = {(s.setting.init, *(dict(grid_point(s.setting)).get(key, "") for key in keys)): s for s in group}
    xs, ys = (_ordered({cell[place] for cell in cells}) for place in (1, 2))
    means = [summary.metrics[metric.name].mean for summary in group]
    low, high, colour_map = min(means), max(means), matplotlib.colormaps["viridis"]

    def draw(figure: plots.Figure, ink: Ink) -> None:
        panels = dict(zip(inits, _axes(figure, len(inits)), strict=True))
        for (init, x, y), summary in cells.items():
            if init in panels:
                mean, gid = summary.metrics[metric.name].mean, marked(comparison, [summary.setting])
                column, row, share = xs.index(x), ys.index(y), (mean - low) / ((high - low) or 1.0)
                cell = Rectangle((column - 0.5, row - 0.5), 1, 1, color=colour_map(share), linewidth=0, gid=gid)
                panels[init].add_patch(cell)
                ink_on = "#10141a" if share > 0.6 else "#ffffff"
                text = metric.text(mean)
                panels[init].text(column, row, text, ha="center", va="center", color=ink_on, size=9, gid=gid)
        for init, axes in panels.items():
            axes.set_xticks(range(len(xs)), xs)
            axes.set_yticks(range(len(ys)), ys)
            axes.set(xlim=(-0.5, len(xs) - 0.5), ylim=(-0.5, len(ys) - 0.5), title=init)
            axes.grid(visible=False)
            axes.set_xlabel(short_name(keys[0]))
            axes.set_ylabel(short_name(keys[1]))
        scale = ScalarMappable(Normalize(low, high), colour_map)
        figure.colorbar(scale, ax=figure.axes, shrink=0.85, label=on_axis(metric))

    title = f"{metric.label} over {short_name(keys[0])} and {short_name(keys[1])}{where}"
    return render(name, title, "Means over seeds; one scale of colours for all.", draw, _size(len(inits)), wide=True)


def _curve(
    comparison: Comparison, group: Sequence[Summary], key: str, metric: Figure, name: str, where: str
) -> Picture:
    points = grid_points(group, key, metric.name)
    settings = {(s.setting.init, dict(grid_point(s.setting)).get(key)): s.setting for s in group}

    def gid(init: str, values: Sequence[str]) -> str:
        return marked(comparison, [settings[init, value] for value in values])

    def draw(figure: plots.Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        draw_points(axes, points, colours(comparison.inits), gid)
        axes.set_xlabel(short_name(key))
        axes.set_ylabel(on_axis(metric))
        legend(axes)

    title = f"{metric.label} over {short_name(key)}{where}"
    return render(name, title, CURVE_CAPTION, draw)


def grid_points(
    group: Sequence[Summary], key: str, metric: str, label: Callable[[Setting], str] = lambda setting: setting.init
) -> Points:
    """The seeds' figures of settings that differ in the grid key `key`; a setting outside the grid has no place."""
    points: Points = {}
    for summary in group:
        value = dict(grid_point(summary.setting)).get(key)
        figures = list(summary.by_seed(metric).values())
        if value is not None and figures:
            points.setdefault(label(summary.setting), {}).setdefault(value, []).extend(figures)
    return points


def draw_points(
    axes: Axes,
    points: Points,
    palette: Mapping[str, str],
    gid: Callable[[str, Sequence[str]], str | None] = lambda label, values: None,
) -> None:
    """A line through the means over the seeds for each label, and the seeds as small dots.

    Args:
        gid: the id of what shows some values of a label.
    """
    xs = _ordered({x for seeds in points.values() for x in seeds})
    numeric = all(_number(x) is not None for x in xs)
    places = {x: (_number(x) or 0.0) if numeric else float(index) for index, x in enumerate(xs)}
    for label, seeds in points.items():
        known = [x for x in xs if x in seeds]
        means = [mean_interval(seeds[x]).mean for x in known]
        look: dict[str, Any] = {"color": palette[label], "markersize": 4}
        axes.plot([places[x] for x in known], means, "o-", label=label, gid=gid(label, known), **look)
        for x in known:
            axes.plot([places[x]] * len(seeds[x]), seeds[x], ".", alpha=0.5, gid=gid(label, [x]), **look)
    if numeric and min(places.values()) > 0 and max(places.values()) >= 8 * min(places.values()):
        axes.set_xscale("log")
    axes.set_xticks(list(places.values()), xs)
    axes.minorticks_off()


def _axes(figure: plots.Figure, count: int) -> list[Axes]:
    columns = min(_COLUMNS, count)
    lines = math.ceil(count / columns)
    return [figure.add_subplot(lines, columns, place + 1) for place in range(count)]


def _size(count: int) -> tuple[float, float]:
    return (1.2 + 3.1 * min(_COLUMNS, count), 0.3 + 2.9 * math.ceil(count / _COLUMNS))


def grid_point(setting: Setting) -> tuple[tuple[str, str], ...]:
    """(grid key, value) of both stages."""
    return (*setting.pretrain_grid, *setting.detection_grid)


def _ordered(values: set[Any]) -> list[str]:
    return sorted(values, key=lambda value: (_number(value) is None, _number(value) or 0.0, value))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def short_name(key: str) -> str:
    """ "SOLVER.BASE_LR" -> "learning rate"."""
    names = {"SOLVER.BASE_LR": "learning rate", "SOLVER.IMS_PER_BATCH": "batch size"}
    return names.get(key, key.split(".")[-1].lower().replace("_", " "))
