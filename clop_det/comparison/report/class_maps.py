"""Cosines between the class means of initialisations' features, related classes side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import figure as plots
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

from clop_det.comparison.report.labels import by_fraction, conditions, fraction_suffix, label_of, left_out, marked
from clop_det.comparison.report.style import Ink, Picture, render
from clop_det.comparison.results.rows import Setting
from clop_det.comparison.results.summary import Comparison

_PANELS, _COLUMNS = 9, 3
_NAMED = 60  # classes whose names can be read beside a panel
_LONGEST = 24  # characters of a name
_ORDERED = 400  # classes that are sorted; more take too long
Panel = tuple[list[list[float]], list[str]]


def class_cosines(comparison: Comparison) -> list[Picture]:
    """Cosines between centred class means of the initialisations' features; equally apart is -1/(K-1) elsewhere."""
    pictures = []
    for fraction, group in by_fraction(comparison):
        panels: dict[str, Panel] = {}
        settings: dict[str, list[Setting]] = {}
        for summary in group:
            for row in summary.rows:
                results = row.results.get("inspect", {})
                cosines = results.get("class_cosines_before")
                if isinstance(cosines, list) and cosines:
                    names = [str(name) for name in results.get("classes", [])]
                    panels.setdefault(label_of(summary, group), (cosines, names))
            settings.setdefault(label_of(summary, group), []).append(summary.setting)
        if panels:
            ids = {label: marked(comparison, settings[label]) for label in panels}
            pictures.append(_picture(comparison, panels, ids, fraction))
    return pictures


def related(cosines: Sequence[Sequence[Sequence[float]]]) -> list[int]:
    """An order of the classes in which those that are alike, on average over the matrices (K, K), stand together.

    Leaves of average linkage on 1 - cosine, in the order that makes neighbours most alike (Bar-Joseph et al. 2001).
    """
    mean = np.mean(np.nan_to_num(np.asarray(cosines, dtype=float)), axis=0)
    if not 2 < len(mean) <= _ORDERED:
        return list(range(len(mean)))
    distance = np.clip(1 - (mean + mean.T) / 2, 0, None)
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    order: list[int] = leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed)).tolist()
    return order


def _picture(
    comparison: Comparison, panels: Mapping[str, Panel], ids: Mapping[str, str], fraction: float | None
) -> Picture:
    shown = dict(list(panels.items())[:_PANELS])
    first, names = next(iter(shown.values()))
    alike = all(len(cosines) == len(first) and other == names for cosines, other in shown.values())
    order = related([cosines for cosines, _ in shown.values()]) if alike else list(range(len(first)))
    named = alike and len(names) == len(first) <= _NAMED
    columns = min(len(shown), _COLUMNS if len(first) <= 12 else 2)
    side = min(6.0, max(2.9, 0.16 * len(first) + 1.0)) if named else 2.9
    texts = [names[k][:_LONGEST] for k in order] if named else []

    def draw(figure: plots.Figure, ink: Ink) -> None:
        for place, (label, (cosines, _)) in enumerate(shown.items()):
            axes = figure.add_subplot(math.ceil(len(shown) / columns), columns, place + 1, gid=ids[label])
            own = order if alike else list(range(len(cosines)))
            image = axes.imshow(np.asarray(cosines)[np.ix_(own, own)], cmap="RdBu_r", vmin=-1, vmax=1)
            axes.set_title(label)
            axes.grid(visible=False)
            size = 8.5 if len(first) <= 12 else 7
            axes.set_xticks(range(len(texts)), texts, rotation=90 if len(texts) > 5 else 0, fontsize=size)
            left = place % columns == 0  # the panels of a line share their names
            axes.set_yticks(range(len(texts)), texts if left else [""] * len(texts), fontsize=size)
        figure.colorbar(image, ax=figure.axes, shrink=0.5, label="cosine")

    caption = "Features of the evaluation images before fine-tuning, centred, first seed of each initialisation."
    caption += " Related classes stand together, in one order for all." if alike and order != sorted(order) else ""
    caption += f" {len(first)} classes, too many for their names." if not named and len(first) > _NAMED else ""
    caption += left_out(len(panels), _PANELS)
    size = 1.2 + (side + 0.2) * columns, 0.3 + side * math.ceil(len(shown) / columns)
    title = f"Cosines between class means{conditions(comparison, '', fraction)}"
    return render(
        f"class_cosines{fraction_suffix(comparison, fraction)}", title, caption, draw, size, wide=len(shown) > 1
    )
