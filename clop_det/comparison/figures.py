"""The figures of the report; each takes the comparison and gives pictures, none where there is nothing to show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clop_det.comparison.rows import Row
from clop_det.comparison.statistics import correlation, mean_interval, ranks
from clop_det.comparison.style import Ink, Picture, colours, render
from clop_det.comparison.summary import Comparison, Summary
from clop_det.comparison.tables import NAMES, percent

Series = Mapping[float, Mapping[int, float]]  # x -> seed -> y
LIMIT = 10  # settings in one figure


def all_figures(comparison: Comparison) -> list[Picture]:
    """Every figure for which there are data, in the order of the page."""
    makers: Iterable[Callable[[Comparison], list[Picture]]] = (
        metric_by_setting,
        metric_over_iterations,
        probe_over_iterations,
        metric_against_fraction,
        metric_against_probe,
        spectra,
    )
    return [picture for maker in makers for picture in maker(comparison)]


def metric_by_setting(comparison: Comparison) -> list[Picture]:
    """Every seed as a dot, the mean as a bar, the 95 % interval as a line."""
    shown = [summary for summary in comparison.summaries if comparison.metric in summary.metrics]
    if not shown:
        return []
    palette = colours(comparison.inits)

    def draw(figure: Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for place, summary in enumerate(shown):
            colour = palette[summary.setting.init]
            interval = summary.metrics[comparison.metric]
            axes.barh(place, interval.mean, height=0.56, color=colour, alpha=0.28)
            if interval.n > 1:
                axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=2.4)
            values = list(summary.by_seed(comparison.metric).values())
            axes.plot(values, [place] * len(values), "o", color=colour, markersize=6, markeredgecolor="none")
            axes.annotate(
                _number(interval.mean, comparison.metric),
                (max([interval.mean, *values, interval.high if interval.n > 1 else -math.inf]), place),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                fontweight="bold",
                color=ink.strong,
            )
        axes.set_yticks(range(len(shown)), [_label(summary, shown) for summary in shown])
        axes.tick_params(axis="y", labelcolor=ink.strong)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.16)
        axes.set_xlim(
            left=min(0, axes.get_xlim()[0]) if min(s.metrics[comparison.metric].mean for s in shown) < 0 else 0
        )
        axes.set_xlabel(_name(comparison.metric))

    caption = "Dots are seeds, bars their mean" + (
        ", lines the 95 % interval." if comparison.most_seeds > 1 else ". One seed: an order of bars is no ranking."
    )
    title = f"{_name(comparison.metric)} per initialisation"
    return [render("metric_by_setting", title, caption, draw, (5.4, 1.2 + 0.46 * len(shown)))]


def metric_over_iterations(comparison: Comparison) -> list[Picture]:
    """AP at every evaluation of fine-tuning: mean over seeds, band = 95 % interval (or the seeds' range for two)."""
    title = "AP while fine-tuning"
    return _over_iterations(comparison, "bbox/AP", "ap_over_iterations", title, "AP")


def probe_over_iterations(comparison: Comparison) -> list[Picture]:
    """kNN accuracy of the backbone at the same evaluations: what fine-tuning does to the features."""
    title = "kNN accuracy of the backbone"
    return _over_iterations(comparison, "probe/knn_top1", "knn_over_iterations", title, "kNN top-1")


def metric_against_fraction(comparison: Comparison) -> list[Picture]:
    """The metric against the share of labels; initialisations that use no labels are level lines."""
    pictures = []
    for detection in _detections(comparison):
        group = [s for s in _group(comparison, detection) if comparison.metric in s.metrics]
        fractions = sorted({s.setting.label_fraction for s in group if s.setting.label_fraction is not None})
        if len(fractions) < 2:
            continue
        pictures.append(_fraction_picture(comparison, group, fractions, detection))
    return pictures


def metric_against_probe(comparison: Comparison) -> list[Picture]:
    """Do the probes predict the metric? One dot a run, with both correlations."""
    pictures = []
    for detection in filter(None, _detections(comparison)):
        rows = [row for row in comparison.rows if row.setting.detection == detection]
        for probe in ("knn_top1", "linear_top1"):
            pairs = [row for row in rows if probe in row.metrics and comparison.metric in row.metrics]
            if len(pairs) >= 4 and len({row.setting for row in pairs}) >= 3:
                pictures.append(_probe_picture(comparison, pairs, probe, detection))
    return pictures


def spectra(comparison: Comparison) -> list[Picture]:
    """Singular values of the initialisations' features: a spectrum that falls off a cliff is a collapsed one."""
    curves: dict[str, list[float]] = {}
    for summary in comparison.summaries:
        for row in summary.rows:
            values = spectrum_of(row)
            label = _label(summary, comparison.summaries)
            if values and label not in curves and len(curves) < LIMIT:
                curves[label] = [value / values[0] for value in values if value > 0]
    if not curves:
        return []
    inits = {_label(summary, comparison.summaries): summary.setting.init for summary in comparison.summaries}
    palette = colours(comparison.inits)

    def draw(figure: Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for style, (label, values) in _styled(curves, inits):
            axes.plot(range(1, len(values) + 1), values, style, color=palette[inits[label]], label=label)
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(1e-7, min(min(values) for values in curves.values())))
        axes.set_xlabel("index")
        axes.set_ylabel("singular value, largest = 1")
        _legend(axes, len(curves))

    caption = "Features of the evaluation images before fine-tuning, first seed of each."
    return [render("singular_values", "Singular-value spectra", caption, draw)]


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


def _over_iterations(comparison: Comparison, key: str, name: str, title: str, unit: str) -> list[Picture]:
    pictures = []
    for detection in filter(None, _detections(comparison)):
        for fraction in _fractions(comparison):
            group = [
                summary
                for summary in _group(comparison, detection)
                if summary.setting.label_fraction in (fraction, None) and _series(summary.rows, key)
            ][:LIMIT]
            if not group:
                continue
            draw = _curves(comparison, group, key, unit)
            where = _where(comparison, detection, fraction)
            suffix = "".join(f"_{part}" for part in (detection, percent(fraction).replace(" %", "pct")) if part != "–")
            caption = (
                "Mean over seeds; the band is the 95 % interval of the mean."
                if comparison.most_seeds > 1
                else "One seed."
            )
            pictures.append(render(name + suffix, f"{title}{where}", caption, draw))
    return pictures


def _curves(comparison: Comparison, group: Sequence[Summary], key: str, unit: str) -> Callable[[Figure, Ink], None]:
    palette = colours(comparison.inits)
    series = {_label(summary, group): _series(summary.rows, key) for summary in group}
    inits = {_label(summary, group): summary.setting.init for summary in group}

    def draw(figure: Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for style, (label, points) in _styled(series, inits):
            colour = palette[inits[label]]
            intervals = {x: mean_interval(list(seeds.values())) for x, seeds in sorted(points.items())}
            xs = list(intervals)
            axes.plot(xs, [intervals[x].mean for x in xs], style, color=colour, label=label, marker="o", markersize=3.5)
            bands = [(x, i.low, i.high) for x, i in intervals.items() if i.n > 1]
            if bands:
                axes.fill_between(*zip(*bands, strict=True), color=colour, alpha=0.16, linewidth=0)
        axes.set_xlabel("iterations")
        axes.set_ylabel(unit)
        axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]))
        _legend(axes, len(series))

    return draw


def _fraction_picture(
    comparison: Comparison, group: Sequence[Summary], fractions: Sequence[float], detection: str
) -> Picture:
    palette = colours(comparison.inits)
    lines: dict[tuple[str, Any], list[Summary]] = {}
    for summary in group:
        setting = summary.setting
        lines.setdefault((setting.init, (setting.pretrain_grid, setting.detection_grid)), []).append(summary)

    def draw(figure: Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for items in list(lines.values())[:LIMIT]:
            colour, label = palette[items[0].setting.init], items[0].setting.label
            intervals = {s.setting.label_fraction: s.metrics[comparison.metric] for s in items}
            if None in intervals:
                axes.axhline(
                    intervals[None].mean, color=colour, linestyle="--", linewidth=1.6, label=f"{label} (no labels)"
                )
                continue
            xs = sorted(x for x in intervals if x is not None)
            axes.plot(xs, [intervals[x].mean for x in xs], "o-", color=colour, label=label, markersize=4)
            bands = [(x, intervals[x].low, intervals[x].high) for x in xs if intervals[x].n > 1]
            if bands:
                axes.fill_between(*zip(*bands, strict=True), color=colour, alpha=0.16, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(fractions, [percent(fraction) for fraction in fractions])
        axes.minorticks_off()
        axes.set_xlabel("labelled share of the pretraining images")
        axes.set_ylabel(_name(comparison.metric))
        _legend(axes, len(lines))

    title = f"{_name(comparison.metric)} against labels{_where(comparison, detection, None)}"
    caption = "Mean over seeds with 95 % interval; dashed: initialisations that see no labels."
    return render(f"against_labels_{detection or 'pretraining'}", title, caption, draw)


def _probe_picture(comparison: Comparison, rows: Sequence[Row], probe: str, detection: str) -> Picture:
    palette = colours(comparison.inits)
    x, y = [row.metrics[probe] for row in rows], [row.metrics[comparison.metric] for row in rows]
    pearson, spearman = correlation(x, y), correlation(ranks(x), ranks(y))

    def draw(figure: Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for init in dict.fromkeys(row.setting.init for row in rows):
            own = [row for row in rows if row.setting.init == init]
            places = [row.metrics[probe] for row in own], [row.metrics[comparison.metric] for row in own]
            axes.plot(*places, "o", color=palette[init], label=init, markersize=6.5, markeredgecolor="none", alpha=0.85)
        axes.set_xlabel(f"{NAMES[probe]} top-1 of the initialisation")
        axes.set_ylabel(_name(comparison.metric))
        axes.margins(0.08)
        _legend(axes, len(comparison.inits))

    title = f"Does {NAMES[probe]} predict {_name(comparison.metric)}?{_where(comparison, detection, None)}"
    caption = f"One dot a run, {len(rows)} runs: Pearson r = {pearson:.2f}, Spearman ρ = {spearman:.2f}."
    return render(f"{probe}_against_metric_{detection}", title, caption, draw)


def _series(rows: Iterable[Row], key: str) -> dict[float, dict[int, float]]:
    points: dict[float, dict[int, float]] = {}
    for row in rows:
        for entry in row.history:
            value = entry.get(key)
            if isinstance(value, (int, float)) and math.isfinite(value):
                points.setdefault(entry["iteration"], {})[row.seed] = float(value)
    return points


def _styled(curves: Mapping[str, Any], inits: Mapping[str, str]) -> list[tuple[str, tuple[str, Any]]]:
    """A line style for each curve: settings of one initialisation share a colour and differ in dashes."""
    dashes, used, result = ("-", "--", ":", "-."), dict.fromkeys(inits.values(), 0), []
    for label, values in curves.items():
        result.append((dashes[used[inits[label]] % len(dashes)], (label, values)))
        used[inits[label]] += 1
    return result


def _legend(axes: Axes, entries: int) -> None:
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(3, entries), handlelength=1.6, columnspacing=1.4
    )


def _label(summary: Summary, among: Sequence[Summary]) -> str:
    """The setting's label, with labels and detection config where those differ among the ones shown."""
    parts = [summary.setting.label]
    if len({s.setting.label_fraction for s in among if s.setting.label_fraction is not None}) > 1:
        parts.append(percent(summary.setting.label_fraction, "labels"))
    if len({s.setting.detection for s in among}) > 1:
        parts.append(summary.setting.detection)
    return " · ".join(filter(None, parts))


def _detections(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(summary.setting.detection for summary in comparison.summaries))


def _fractions(comparison: Comparison) -> list[float | None]:
    found = sorted({s.setting.label_fraction for s in comparison.summaries if s.setting.label_fraction is not None})
    return [*found] or [None]


def _group(comparison: Comparison, detection: str) -> list[Summary]:
    return [summary for summary in comparison.summaries if summary.setting.detection == detection]


def _where(comparison: Comparison, detection: str, fraction: float | None) -> str:
    parts = [detection] if len(_detections(comparison)) > 1 else []
    if fraction is not None and len(_fractions(comparison)) > 1:
        parts.append(percent(fraction, "labels"))
    return f" ({', '.join(parts)})" if parts else ""


def _name(metric: str) -> str:
    return NAMES.get(metric, metric)


def _number(value: float, metric: str) -> str:
    return f"{value:.3f}" if "top1" in metric else f"{value:.1f}"
