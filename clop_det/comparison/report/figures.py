"""The figures of the report; each takes the comparison and gives pictures, none where there is nothing to show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from matplotlib import figure as plots
from matplotlib.ticker import MaxNLocator

from clop_det.comparison.report.class_maps import class_cosines
from clop_det.comparison.report.curves import metric_against_fraction, metric_over_iterations, probe_over_iterations
from clop_det.comparison.report.labelling import labels_or_boxes
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
    on_axis,
    styled,
)
from clop_det.comparison.report.maps import grid_figures
from clop_det.comparison.report.pareto import metric_against_cost
from clop_det.comparison.report.ranking import metric_against_score
from clop_det.comparison.report.style import Ink, Picture, colours, render
from clop_det.comparison.results.rows import Row, Setting
from clop_det.comparison.results.statistics import correlation, ranks
from clop_det.comparison.results.summary import Comparison
from clop_det.figures import ACCURACY, ON_BOXES

LEAD = "metric_by_setting"  # the figure that shows the verdict
_BARS = 24  # more settings make no readable figure; the heat maps show them


def all_figures(comparison: Comparison) -> list[Picture]:
    """Every figure for which there are data, in the order of the page; one that cannot be drawn becomes a remark."""
    makers: Iterable[Callable[[Comparison], list[Picture]]] = (
        metric_by_setting,
        metric_against_score,
        metric_against_cost,
        metric_over_iterations,
        probe_over_iterations,
        metric_against_fraction,
        labels_or_boxes,
        metric_against_probe,
        grid_figures,
        spectra,
        class_cosines,
    )
    pictures: list[Picture] = []
    for maker in makers:
        try:
            pictures += maker(comparison)
        except Exception as error:  # the values are somebody's, and matplotlib has limits of its own
            what = (maker.__name__.replace("_", " "), type(error).__name__, " ".join(str(error).split())[:200])
            comparison.remarks.append("the figure of {} is missing: it cannot be drawn ({}: {}).".format(*what))
    return pictures


def metric_by_setting(comparison: Comparison) -> list[Picture]:
    """Every seed as a dot, the mean as a bar, the 95 % interval as a line."""
    shown = [summary for summary in comparison.summaries if comparison.metric in summary.metrics]
    if not 0 < len(shown) <= _BARS:
        return []
    palette, metric = colours(comparison.inits), comparison.catalogue.find(comparison.metric)

    def draw(figure: plots.Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for place, summary in enumerate(shown):
            colour = palette[summary.setting.init]
            interval, gid = summary.metrics[comparison.metric], marked(comparison, [summary.setting])
            axes.barh(place, interval.mean, height=0.56, color=colour, alpha=0.28, gid=gid)
            if interval.n > 1:
                axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2.4, gid=gid)
            values = list(summary.by_seed(comparison.metric).values())
            axes.plot(values, [place] * len(values), "o", color=colour, markersize=6, markeredgecolor="none", gid=gid)
            axes.annotate(
                metric.text(interval.mean),
                (max([interval.mean, *values, interval.high if interval.n > 1 else -math.inf]), place),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                fontweight="bold",
                color=ink.strong,
                gid=gid,
            )
        axes.set_yticks(range(len(shown)), [label_of(summary, shown) for summary in shown])
        axes.tick_params(axis="y", labelcolor=ink.strong)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.16)
        axes.set_xlim(
            left=min(0, axes.get_xlim()[0]) if min(s.metrics[comparison.metric].mean for s in shown) < 0 else 0
        )
        axes.xaxis.set_major_locator(MaxNLocator(5))  # small figures have long numbers
        axes.set_xlabel(on_axis(metric))

    caption = "Dots are seeds, bars their mean" + (
        ", lines the 95 % interval." if comparison.most_seeds > 1 else ". One seed: an order of bars is no ranking."
    )
    title = f"{metric.label} per initialisation"
    return [render(LEAD, title, caption, draw, (5.4, max(2.6, 1.2 + 0.42 * len(shown))))]


def metric_against_probe(comparison: Comparison) -> list[Picture]:
    """Do the probes, and RankMe, predict the metric? One dot a run, with both correlations."""
    pictures = []
    for detection in filter(None, detections(comparison)):
        rows = [row for row in comparison.rows if row.setting.detection == detection]
        for probe in comparison.catalogue.probe_columns():
            pairs = [row for row in rows if probe in row.metrics and comparison.metric in row.metrics]
            if len(pairs) >= 4 and len({row.setting for row in pairs}) >= 3:
                pictures.append(_probe_picture(comparison, pairs, probe, detection))
    return pictures


def spectra(comparison: Comparison) -> list[Picture]:
    """Singular values of the initialisations' features: a spectrum that falls off a cliff is a collapsed one."""
    pictures = []
    for fraction, group in by_fraction(comparison):
        curves: dict[str, list[float]] = {}
        for summary in group:
            values = next(filter(None, map(spectrum_of, summary.rows)), None)
            if values:
                largest = values[0]
                curves.setdefault(label_of(summary, group), [value / largest for value in values if value > 0])
        if curves:
            settings = {label_of(summary, group): summary.setting for summary in group}
            pictures.append(_spectrum_picture(comparison, curves, settings, fraction))
    return pictures


def spectrum_of(row: Row) -> list[float]:
    """Singular values of the initialisation's features, largest first; empty if no job recorded them."""
    for kind, key in (
        ("inspect", "singular_values_before"),
        ("pretrain", "singular_values"),
        ("detect", "init_singular_values"),
    ):
        values = row.results.get(kind, {}).get(key)
        if isinstance(values, list) and values and values[0] > 0:
            return [float(value) for value in values]
    return []


def _spectrum_picture(
    comparison: Comparison, curves: Mapping[str, Sequence[float]], of: Mapping[str, Setting], fraction: float | None
) -> Picture:
    palette = colours(comparison.inits)
    inits = {label: setting.init for label, setting in of.items()}
    shown = dict(list(curves.items())[:LIMIT])

    def draw(figure: plots.Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for style, (label, values) in styled(shown, inits):
            (line,) = axes.plot(range(1, len(values) + 1), values, style, color=palette[inits[label]], label=label)
            line.set_gid(marked(comparison, [of[label]]))
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.minorticks_off()
        axes.set_ylim(max(1e-6, min(min(values) for values in shown.values())), 1.6)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("index")
        axes.set_ylabel("singular value, largest = 1")
        legend(axes)

    caption = "Features of the evaluation images before fine-tuning, first seed of each." + left_out(len(curves))
    title = f"Singular-value spectra{conditions(comparison, '', fraction)}"
    return render(f"singular_values{fraction_suffix(comparison, fraction)}", title, caption, draw)


def _probe_picture(comparison: Comparison, rows: Sequence[Row], probe: str, detection: str) -> Picture:
    palette, find = colours(comparison.inits), comparison.catalogue.find
    shown, metric = find(probe), find(comparison.metric)
    accuracy = f": {shown.unit}" if shown.group == ACCURACY else ""
    x, y = [row.metrics[probe] for row in rows], [row.metrics[comparison.metric] for row in rows]
    pearson, spearman = correlation(x, y), correlation(ranks(x), ranks(y))

    def draw(figure: plots.Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        named: set[str] = set()
        for setting in dict.fromkeys(row.setting for row in rows):
            own, init = [row for row in rows if row.setting == setting], setting.init
            places = [row.metrics[probe] for row in own], [row.metrics[comparison.metric] for row in own]
            (dots,) = axes.plot(*places, "o", color=palette[init], markersize=6.5, markeredgecolor="none", alpha=0.85)
            dots.set(gid=marked(comparison, [setting]), label="_" if init in named else init)
            named.add(init)
        axes.set_xlabel(f"{on_axis(shown)}{accuracy} of the initialisation")
        axes.set_ylabel(on_axis(metric))
        axes.margins(0.08)
        legend(axes)

    where = " on boxes" if probe.startswith(ON_BOXES) else ""
    asked = f"the {find(probe.removeprefix(ON_BOXES)).label} probe{where}" if accuracy else shown.label
    title = f"Does {asked} predict {metric.label}?{conditions(comparison, detection, None)}"
    caption = f"One dot a run, {len(rows)} runs: Pearson r = {pearson:.2f}, Spearman rho = {spearman:.2f}."
    return render(f"{probe}_against_metric_{detection}", title, caption, draw)
