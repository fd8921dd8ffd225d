"""Figures over settings: learning rate x batch size heat maps, curves over one setting, cosines of class means."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clop_det.comparison.report.labels import (
    by_fraction,
    conditions,
    fraction_suffix,
    label_of,
    left_out,
    legend,
    metric_name,
    number,
)
from clop_det.comparison.report.style import Ink, Picture, colours, render
from clop_det.comparison.results.rows import Setting
from clop_det.comparison.results.statistics import mean_interval
from clop_det.comparison.results.summary import Comparison, Summary

_COLUMNS = 3  # panels side by side
_PANELS = 9
# Shown beside the comparison's metric: what collapses with the learning rate.
_FURTHER = ("rankme", "embedding_rankme", "embedding_mean_norm")


def grid_figures(comparison: Comparison) -> list[Picture]:
    """For every detection config and label fraction, the metric and measures of collapse over the grid."""
    pictures = []
    groups: dict[tuple[str, float | None], list[Summary]] = {}
    for summary in comparison.summaries:
        if _point(summary.setting):
            key = summary.setting.detection, summary.setting.label_fraction
            groups.setdefault(key, []).append(summary)
    for (detection, fraction), group in groups.items():
        keys = list(dict.fromkeys(key for summary in group for key, _ in _point(summary.setting)))
        for metric in dict.fromkeys((comparison.metric, *_FURTHER)):
            shown = [summary for summary in group if metric in summary.metrics]
            where = conditions(comparison, detection, fraction)
            name = f"{metric}_over_grid_{detection or 'pretraining'}_{fraction if fraction is not None else 'all'}"
            if len(shown) > 1 and len(keys) == 1:
                pictures.append(_curve(comparison, shown, keys[0], metric, name, where))
            elif len(shown) > 1 and len(keys) == 2:
                pictures.append(_heat_maps(shown, (keys[0], keys[1]), metric, name, where))
    return pictures


def class_cosines(comparison: Comparison) -> list[Picture]:
    """Cosines between centred class means of the initialisations' features; equally apart is -1/(K-1) elsewhere."""
    pictures = []
    for fraction, group in by_fraction(comparison):
        panels: dict[str, tuple[list[list[float]], list[str]]] = {}
        for summary in group:
            for row in summary.rows:
                results = row.results.get("inspect", {})
                cosines = results.get("class_cosines_before")
                if isinstance(cosines, list) and cosines:
                    names = [str(name) for name in results.get("classes", [])]
                    panels.setdefault(label_of(summary, group), (cosines, names))
        if panels:
            pictures.append(_cosine_picture(comparison, panels, fraction))
    return pictures


def _cosine_picture(
    comparison: Comparison, panels: Mapping[str, tuple[list[list[float]], list[str]]], fraction: float | None
) -> Picture:
    shown = dict(list(panels.items())[:_PANELS])

    def draw(figure: Figure, ink: Ink) -> None:
        for axes, (label, (cosines, names)) in zip(_axes(figure, len(shown)), shown.items(), strict=True):
            image = axes.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1)
            axes.set_title(label)
            axes.grid(visible=False)
            few = len(names) == len(cosines) <= 12
            axes.set_xticks(range(len(names)) if few else [], names if few else [])
            axes.set_yticks(range(len(names)) if few else [], names if few else [])
        figure.colorbar(image, ax=figure.axes, shrink=0.8, label="cosine")

    title = f"Cosines between class means{conditions(comparison, '', fraction)}"
    caption = "Features of the evaluation images before fine-tuning, centred, first seed of each initialisation."
    caption += left_out(len(panels), _PANELS)
    name = f"class_cosines{fraction_suffix(comparison, fraction)}"
    return render(name, title, caption, draw, _size(len(shown)), wide=len(shown) > 1)


def _heat_maps(group: Sequence[Summary], keys: tuple[str, str], metric: str, name: str, where: str) -> Picture:
    inits = list(dict.fromkeys(summary.setting.init for summary in group))[:_PANELS]
    cells = {
        (s.setting.init, *(dict(_point(s.setting)).get(key, "") for key in keys)): s.metrics[metric] for s in group
    }
    xs, ys = (_ordered({cell[place] for cell in cells}) for place in (1, 2))
    low = min(interval.mean for interval in cells.values())
    high = max(interval.mean for interval in cells.values())
    colour_map = matplotlib.colormaps["viridis"]

    def draw(figure: Figure, ink: Ink) -> None:
        for axes, init in zip(_axes(figure, len(inits)), inits, strict=True):
            means = [[cells[init, x, y].mean if (init, x, y) in cells else math.nan for x in xs] for y in ys]
            image = axes.imshow(means, cmap=colour_map, vmin=low, vmax=high, origin="lower", aspect="auto")
            for row, line in enumerate(means):
                for column, value in enumerate(line):
                    bright = (value - low) > 0.6 * (high - low)
                    text = "" if math.isnan(value) else number(value, metric)
                    axes.text(
                        column, row, text, ha="center", va="center", color="#10141a" if bright else "#ffffff", size=9
                    )
            axes.set_xticks(range(len(xs)), xs)
            axes.set_yticks(range(len(ys)), ys)
            axes.grid(visible=False)
            axes.set_title(init)
            axes.set_xlabel(_short(keys[0]))
            axes.set_ylabel(_short(keys[1]))
        figure.colorbar(image, ax=figure.axes, shrink=0.85, label=metric_name(metric))

    title = f"{metric_name(metric)} over {_short(keys[0])} and {_short(keys[1])}{where}"
    return render(name, title, "Means over seeds; one scale of colours for all.", draw, _size(len(inits)), wide=True)


def _curve(comparison: Comparison, group: Sequence[Summary], key: str, metric: str, name: str, where: str) -> Picture:
    palette = colours(comparison.inits)
    xs = _ordered({dict(_point(summary.setting))[key] for summary in group})
    numeric = all(_number(x) is not None for x in xs)
    places = {x: (_number(x) or 0.0) if numeric else float(index) for index, x in enumerate(xs)}

    def draw(figure: Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for init in dict.fromkeys(summary.setting.init for summary in group):
            own = {
                dict(_point(s.setting))[key]: list(s.by_seed(metric).values()) for s in group if s.setting.init == init
            }
            known = [x for x in xs if x in own]
            means = [mean_interval(own[x]).mean for x in known]
            axes.plot([places[x] for x in known], means, "o-", color=palette[init], label=init, markersize=4)
            for x in known:
                axes.plot([places[x]] * len(own[x]), own[x], ".", color=palette[init], alpha=0.5, markersize=4)
        if numeric and min(places.values()) > 0 and max(places.values()) >= 8 * min(places.values()):
            axes.set_xscale("log")
        axes.set_xticks(list(places.values()), xs)
        axes.minorticks_off()
        axes.set_xlabel(_short(key))
        axes.set_ylabel(metric_name(metric))
        legend(axes)

    title = f"{metric_name(metric)} over {_short(key)}{where}"
    return render(name, title, "Lines join the means over seeds; small dots are seeds.", draw)


def _axes(figure: Figure, count: int) -> list[Axes]:
    columns = min(_COLUMNS, count)
    lines = math.ceil(count / columns)
    return [figure.add_subplot(lines, columns, place + 1) for place in range(count)]


def _size(count: int) -> tuple[float, float]:
    return (1.2 + 3.1 * min(_COLUMNS, count), 0.3 + 2.9 * math.ceil(count / _COLUMNS))


def _point(setting: Setting) -> tuple[tuple[str, str], ...]:
    return (*setting.pretrain_grid, *setting.detection_grid)


def _ordered(values: set[Any]) -> list[str]:
    return sorted(values, key=lambda value: (_number(value) is None, _number(value) or 0.0, value))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _short(key: str) -> str:
    names = {"SOLVER.BASE_LR": "learning rate", "SOLVER.IMS_PER_BATCH": "batch size"}
    return names.get(key, key.split(".")[-1].lower().replace("_", " "))
