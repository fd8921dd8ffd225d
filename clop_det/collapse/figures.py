"""The pictures of docs/collapse.md, drawn from sweeps."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from clop_det.collapse.style import _SETTINGS, BLUE, GREEN, GREY, INK, OCHRE, ORANGE, PURPLE, SOFT, new_figure, tidy
from clop_det.collapse.sweeps import Row, Scenario
from clop_det.collapse.thresholds import pinned_learning_rate, smallest_weight

MEASURES = (("effective_rank", "effective rank"), ("mean_norm", "length of the mean"), ("mean_cosine", "mean cosine"))
COLOURS = (GREY, OCHRE, BLUE, GREEN, PURPLE, ORANGE)
Curve = tuple[str, str, str, Sequence[Row]]  # label, colour, line style, rows


def learning_rate_figure(rows: Sequence[Row], clop_rows: Sequence[Row]) -> Figure:
    """Rank, mean and cosine against eta / T: repulsion alone above, with CLOP's pull below.

    Args:
        rows: repulsion alone, under several rules and temperatures.
        clop_rows: the rule "ambient" at one temperature, several labelled fractions and weights.
    """
    with matplotlib.rc_context(_SETTINGS):
        figure = new_figure(12, 7.4)
        grid = figure.add_gridspec(2, 4, width_ratios=(1, 1, 1, 0.66), wspace=0.3, hspace=0.62)
        titles = ("Repulsion alone", f"With CLOP's pull, T = {clop_rows[0].temperature:g}")
        for line, curves in enumerate((_rule_curves(rows), _clop_curves(clop_rows))):
            panels = [figure.add_subplot(grid[line, column]) for column in range(3)]
            for axes, (measure, name) in zip(panels, MEASURES, strict=True):
                _draw_curves(axes, curves, measure)
                axes.set_title(name, color=INK)
                axes.set_xlabel("learning rate η / T")
            handles = panels[0].get_legend_handles_labels()
            legend = figure.add_subplot(grid[line, 3])
            legend.axis("off")
            legend.legend(
                *handles, loc="center left", frameon=False, fontsize=12, bbox_to_anchor=(-0.32, 0.5), handlelength=1.8
            )
        figure.subplots_adjust(left=0.045, right=0.99, top=0.87, bottom=0.08)
        for title, axes in zip(titles, (figure.axes[0], figure.axes[4]), strict=True):
            place = axes.get_position()
            figure.text(place.x0, place.y1 + 0.068, title, fontsize=15.5, fontweight="bold", color=INK)
    return figure


def _rule_curves(rows: Sequence[Row]) -> list[Curve]:
    curves: list[Curve] = []
    looks = {"ambient": "-", "tangent": "--", "free": ":"}
    temperatures = list(dict.fromkeys(row.temperature for row in rows))
    for rule in dict.fromkeys(row.scenario.rule for row in rows):
        # The other rules look alike at every temperature; the paper's is drawn at all.
        for index, temperature in enumerate(temperatures if rule == "ambient" else temperatures[:1]):
            chosen = [row for row in rows if row.scenario.rule == rule and row.temperature == temperature]
            colour = (BLUE, GREEN, ORANGE)[index % 3] if rule == "ambient" else (PURPLE if rule == "tangent" else GREY)
            curves.append((f"{rule}, T = {temperature:g}", colour, looks[rule], chosen))
    return curves


def _clop_curves(rows: Sequence[Row]) -> list[Curve]:
    curves: list[Curve] = []
    for index, scenario in enumerate(dict.fromkeys(row.scenario for row in rows)):
        chosen = [row for row in rows if row.scenario == scenario]
        style = "--" if scenario.weight > 1 else "-"
        curves.append((_clop_name(scenario), COLOURS[index % len(COLOURS)], style, chosen))
    return curves


def _clop_name(scenario: Scenario) -> str:
    if not scenario.weight * scenario.labelled_fraction:
        return "no labels"
    return f"{scenario.labelled_fraction:.0%} labels, λ = {scenario.weight:g}"


def _draw_curves(axes: Axes, curves: Sequence[Curve], measure: str) -> None:
    for index, (label, colour, style, rows) in enumerate(curves):
        ratios = sorted({row.ratio for row in rows})
        values = [[getattr(row, measure) for row in rows if row.ratio == ratio] for ratio in ratios]
        middle = [float(np.median(v)) for v in values]
        axes.fill_between(ratios, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.2, lw=0)
        # The first curve is a broad band, so that one that lies on it can be seen.
        width, alpha = (6, 0.45) if index == 0 else (2.2, 1.0)
        axes.plot(ratios, middle, style, color=colour, linewidth=width, alpha=alpha, label=label)
    axes.set_xticks([0, 0.5, 1, 1.5, 2], ["0", "0.5", "1", "1.5", "2"])
    axes.axvline(1.0, color=INK, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.set_xlim(0, max(row.ratio for _, _, _, rows in curves for row in rows))
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    tidy(axes)


def phase_figure(
    fractions: Sequence[float],
    weights: Sequence[float],
    by_weight: Tensor,
    ratio: float,
    ratios: Sequence[float],
    by_ratio: Tensor,
    strong: float,
    temperature: float,
    classes: int,
) -> Figure:
    """Where CLOP keeps the rank: over (lambda, labelled fraction) at one eta, and over (eta, fraction) at one lambda.

    Args:
        fractions: labelled fractions, rising.
        weights: lambda of the left panel, rising.
        by_weight: effective ranks (fractions, weights) at eta = ratio * T.
        ratio: eta / T of the left panel.
        ratios: eta / T of the right panel, rising.
        by_ratio: effective ranks (fractions, ratios) at lambda = strong.
        strong: lambda of the right panel.
        temperature: T of both.
        classes: K.
    """
    with matplotlib.rc_context(_SETTINGS):
        figure = new_figure(12, 5.2)
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, x, ranks in ((left, weights, by_weight), (right, ratios, by_ratio)):
            share = (ranks / classes).clamp(max=1).numpy()
            image = axes.pcolormesh(
                x, fractions, share, cmap="cividis", vmin=0, vmax=1, shading="nearest", rasterized=True
            )
            axes.contour(x, fractions, (ranks / classes).numpy(), levels=[0.95], colors=INK, linewidths=2.2)
            axes.spines[["top", "right"]].set_visible(False)
        left.set_xscale("log")
        fine = np.linspace(0.005, 1, 800)
        limits = np.array([smallest_weight(ratio * temperature, temperature, f) for f in fine])
        shown = limits <= max(weights)
        left.plot(limits[shown], fine[shown], color=ORANGE, linewidth=2.6, linestyle="--")
        limits = np.array([pinned_learning_rate(temperature, f) / temperature for f in fine[:-1]])
        shown = limits <= max(ratios)
        right.plot(limits[shown], fine[:-1][shown], color=ORANGE, linewidth=2.6, linestyle="--")
        left.set_title(f"past the threshold: η = {ratio:g} T")
        right.set_title(f"strong pull: λ = {strong:g}")
        left.set_xlabel("weight λ of the pull")
        right.set_xlabel("learning rate η / T")
        left.set_ylabel("labelled fraction f")
        left.set_xlim(min(weights), max(weights))
        right.set_xlim(min(ratios), max(ratios))
        left.set_ylim(min(fractions), max(fractions))
        figure.subplots_adjust(left=0.065, right=0.9, top=0.9, bottom=0.2, wspace=0.09)
        bar = figure.colorbar(image, cax=figure.add_axes((0.92, 0.2, 0.016, 0.7)))
        bar.set_label(f"effective rank / K (K = {classes}), cut at 1")
        bar.outline.set_visible(False)
        figure.text(
            0.065, 0.035, "black: measured, rank reaches 0.95 K     orange, dashed: predicted, mean stops growing",
            fontsize=11.5, color=SOFT,
        )  # fmt: skip
    return figure
