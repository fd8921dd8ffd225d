"""What a better detector costs: the metric against the computing time of pretraining, and against its labels."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib import figure as plots
from matplotlib.ticker import MaxNLocator

from clop_det.comparison.report.labels import LIMIT, conditions, detections, label_of, left_out, legend, marked, on_axis
from clop_det.comparison.report.style import Ink, Picture, colours, render
from clop_det.comparison.report.tables import MISSING
from clop_det.comparison.results.costs import STAGES, setting_costs
from clop_det.comparison.results.statistics import Interval
from clop_det.comparison.results.summary import Comparison, Summary
from clop_det.figures import HIGHER

_MARKS = "os^Dv<>P"


def metric_against_cost(comparison: Comparison) -> list[Picture]:
    """Two pictures for each detection config: cost of pretraining, and class labels, against the metric."""
    costs = list(zip(comparison.summaries, setting_costs(comparison), strict=True))
    units = sorted({unit for _, cost in costs for unit in cost.stages.get("pretraining", {})})
    pictures = []
    for detection in filter(None, detections(comparison)):
        shown = [item for item in costs if item[0].setting.detection == detection]
        where = conditions(comparison, detection, None)
        known = [(summary, cost.stages["pretraining"]) for summary, cost in shown if "pretraining" in cost.stages]
        unknown = " What a given checkpoint cost is not known; it is not shown." if len(known) < len(shown) else ""
        for unit in units:
            points = [
                (summary, spent.get(unit, 0.0), summary.metrics.get(comparison.metric))
                for summary, spent in known
                if unit in spent or not spent  # of another unit: the cost in this one is not 0
            ]
            more = unknown + (f" What cost no {unit} is not shown." if len(points) < len(known) else "")
            axis, name = f"{unit} of pretraining, mean over seeds", f"cost_{unit.split('-')[0].lower()}_{detection}"
            pictures += _picture(comparison, points, f"What pretraining costs{where}", axis, name, more)
        labels = [(s, float(c.labels), s.metrics.get(comparison.metric)) for s, c in shown if c.labels is not None]
        more = " Labels of given checkpoints are not known; they are not shown." if len(labels) < len(shown) else ""
        title, axis = f"What labels give{where}", "class labels that pretraining saw"
        pictures += _picture(comparison, labels, title, axis, f"labels_{detection}", more)
    return pictures


def cost_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Header and cells: labels, the cost of each stage, and energy where it was measured, for each setting."""
    lines, costs = [], setting_costs(comparison)
    measured = any(cost.joules for cost in costs)
    for summary, cost in zip(comparison.summaries, costs, strict=True):
        labels = MISSING if cost.labels is None else f"{cost.labels:,}"
        stages = [cost.text(stage) for stage in STAGES]
        lines.append([label_of(summary, comparison.summaries), labels, *stages, *[cost.energy] * measured])
    return ["initialisation", "class labels", *STAGES, *["energy"] * measured], lines


def _picture(
    comparison: Comparison,
    points: Sequence[tuple[Summary, float, Interval | None]],
    title: str,
    axis: str,
    name: str,
    more: str,
) -> list[Picture]:
    shown = [(summary, x, interval) for summary, x, interval in points if interval is not None]
    if len({x for _, x, _ in shown}) < 2:
        return []
    metric, palette = comparison.catalogue.find(comparison.metric), colours(comparison.inits)
    best = front([(x, interval.mean) for _, x, interval in shown], metric.better)

    def draw(figure: plots.Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        axes.plot([x for x, _ in best], [y for _, y in best], color=ink.soft, linewidth=1, drawstyle="steps-post")
        used: dict[str, int] = {}
        for summary, x, interval in shown[:LIMIT]:
            init, gid = summary.setting.init, marked(comparison, [summary.setting])
            mark = _MARKS[used.setdefault(init, 0) % len(_MARKS)]
            used[init] += 1
            colour = palette[init]
            if interval.n > 2:
                axes.plot([x, x], [interval.low, interval.high], color=colour, linewidth=1.6, alpha=0.6, gid=gid)
            label = label_of(summary, [s for s, _, _ in shown])
            axes.plot(x, interval.mean, mark, color=colour, label=label, markersize=7, gid=gid)
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(axis)
        axes.set_ylabel(on_axis(metric))
        legend(axes)

    line = " The grey line joins settings that no cheaper one surpasses." if metric.better else ""
    bars = " Lines are 95 % intervals." if comparison.most_seeds > 2 else ""
    caption = f"Mean over seeds.{bars}{line}{more}{left_out(len(shown))}"
    return [render(f"metric_against_{name}", title, caption, draw)]


def front(points: Sequence[tuple[float, float]], better: str | None) -> list[tuple[float, float]]:
    """The points (cost, figure) that none of a smaller or equal cost surpasses, by cost; none if nothing is better."""
    kept: list[tuple[float, float]] = []
    if better is None:
        return kept
    sign = 1.0 if better == HIGHER else -1.0
    for x, y in sorted(points, key=lambda point: (point[0], -sign * point[1])):
        if not kept or sign * y > sign * kept[-1][1]:
            kept.append((x, y))
    return kept
