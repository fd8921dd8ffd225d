"""The picture of a finished run: curves.png, drawn from metrics.json alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from clop_det.collapse.style import BLUE, GREEN, GREY, OCHRE, ORANGE, PURPLE, new_figure, save_figure, tidy
from clop_det.engine.metrics import read_metrics
from clop_det.figures import ACCURACY, CATALOGUE, PROBE, RANK
from clop_det.pretraining.collapse_watch import RANKME

_COLOURS = (ORANGE, BLUE, GREEN, PURPLE, OCHRE)
Curves = list[tuple[str, str]]  # key in metrics.json, label


def _panels(losses: Curves) -> dict[str, Curves]:
    """Panel title -> its curves."""

    def labelled(*keys: str) -> Curves:
        return [(key, CATALOGUE.find(key).label) for key in keys]

    return {
        "loss": losses,
        "learning rate": [("lr", "learning rate")],
        "accuracy on frozen features": labelled(*(f"{PROBE}/{name}" for name in CATALOGUE.names(ACCURACY))),
        "rank": labelled(*(f"{PROBE}/{name}" for name in CATALOGUE.names(RANK)), RANKME),
    }


def draw_curves(folder: str | os.PathLike[str]) -> Path:
    """Write curves.png (and .svg): loss parts, learning rate, accuracies and ranks over the iterations."""
    lines = read_metrics(folder)
    parts = sorted({key for line in lines for key in line if key.startswith("loss_")})
    losses = [(key, key[5:].replace("_", " ")) for key in parts]
    if len(parts) > 1:
        losses.insert(0, ("total_loss", "total"))
    figure = new_figure(11, 7)
    for axes, (title, curves) in zip(figure.subplots(2, 2).flat, _panels(losses).items(), strict=True):
        for (key, label), colour in zip(curves, _cycle(len(curves)), strict=True):
            _draw(axes, lines, key, label, colour)
        axes.set_title(title)
        axes.set_xlabel("iteration")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        tidy(axes)
        if axes.lines and len(curves) > 1:
            axes.legend(frameon=False, fontsize=10)
    _mark_skipped(figure.axes[0], lines)
    figure.set_layout_engine("tight")
    return save_figure(figure, Path(folder) / "curves")[0]


def _cycle(count: int) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in range(count)]


def _draw(axes: Axes, lines: list[dict[str, Any]], key: str, label: str, colour: str) -> None:
    points = [(line["iteration"] + 1, line[key]) for line in lines if key in line]
    if key.startswith("probe/") and len(points) > 1 and points[0][0] == 1:
        points[0] = (0, points[0][1])  # the first probes run before the first step
    if points:
        axes.plot(*zip(*points, strict=True), color=colour, label=label, marker="o" if len(points) < 12 else None, ms=4)


def _mark_skipped(axes: Axes, lines: list[dict[str, Any]]) -> None:
    for line in lines:
        if "skipped_steps" in line:
            axes.axvline(line["iteration"] + 1, color=GREY, linestyle=":", linewidth=1)
