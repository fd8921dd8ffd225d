"""The figure of class labels against boxed images: what the same money buys, spent one way or the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import figure as plots

from clop_det.comparison.names import BOXED_IMAGE, LABEL
from clop_det.comparison.report.labels import legend, on_axis
from clop_det.comparison.report.style import PALETTE, Ink, Picture, render
from clop_det.comparison.results.labelling import Point, Worth, points_of, worth
from clop_det.comparison.results.summary import Comparison

_BUDGETS = (0.25, 0.5, 0.75)  # quantiles of what the points cost
_STEPS = 60


def labels_or_boxes(comparison: Comparison) -> list[Picture]:
    """Curves of equal cost for every initialisation whose labels and boxed images both vary."""
    pictures = []
    for init, points in points_of(comparison.rows, comparison.metric).items():
        found = worth(points)
        if found is not None and comparison.cost:
            pictures.append(_picture(comparison, init, points, found))
    return pictures


def iso_cost(points: Sequence[Point], cost: Mapping[str, float]) -> dict[float, list[tuple[float, float]]]:
    """Total cost -> (labels, boxed images) that it buys, within the range of the points."""
    spent = [point.labels * cost[LABEL] + point.images * cost[BOXED_IMAGE] for point in points]
    labels, images = ([getattr(point, name) for point in points] for name in ("labels", "images"))
    lines = {}
    for total in (float(value) for value in np.quantile(spent, _BUDGETS)):
        bought = [
            (float(count), (total - count * cost[LABEL]) / cost[BOXED_IMAGE])
            for count in np.linspace(min(labels), max(labels), _STEPS)
        ]
        inside = [(one, other) for one, other in bought if min(images) <= other <= max(images)]
        if len(inside) > 1:
            lines[total] = inside
    return lines


def _picture(comparison: Comparison, init: str, points: Sequence[Point], found: Worth) -> Picture:
    metric = comparison.catalogue.find(comparison.metric)

    def draw(figure: plots.Figure, ink: Ink) -> None:
        axes = figure.add_subplot()
        for colour, (total, places) in zip(PALETTE, iso_cost(points, comparison.cost).items(), strict=False):
            heights = [found.figure(*place) for place in places]
            axes.plot([labels for labels, _ in places], heights, color=colour, label=f"total cost {total:.0f}")
        for point in points:
            values = list(point.figures.values())
            axes.plot([point.labels] * len(values), values, ".", color=ink.soft, markersize=4)
        axes.set_xlabel("class labels bought (the rest of the money buys boxed images)")
        axes.set_ylabel(on_axis(metric))
        legend(axes)

    caption = found.sentence(init, metric.label, comparison.cost) + " Dots are runs, lines the fit over all of them."
    return render(f"labels_or_boxes_{init}", f"Class labels or boxed images? {init}", caption, draw)
