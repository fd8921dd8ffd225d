"""The whole simulation study in one call: figures, animation, CSV and a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from clop_det.collapse.animation import Scene, animate, still
from clop_det.collapse.dynamics import RULES
from clop_det.collapse.figures import learning_rate_figure, phase_figure
from clop_det.collapse.style import save_figure
from clop_det.collapse.sweeps import Row, Scenario, Size, learning_rate_sweep, phase_diagram
from clop_det.collapse.thresholds import pinned_learning_rate, simplex_learning_rate, smallest_weight
from clop_det.files import write_text

# Rank at which CLOP counts as having kept the classes apart, in units of K: with every point at its prototype the rank
# is K itself, which no finite weight quite reaches.
KEPT = 0.95

_FIGURE_1 = Size(count=50, dim=50, steps=500)
_CLOP = Size(count=100, dim=64, classes=10, steps=300)
_PHASE = Size(count=100, dim=64, classes=10, steps=200)


@dataclass(frozen=True)
class StudySettings:
    """What is simulated; the defaults take about half a minute of one processor core.

    Attributes:
        ratios: eta / T of the curves.
        temperatures: T of the curves without labels; CLOP's curves and diagrams use the first.
        seeds: of the starting points.
        size: of the curves without labels (the paper's Figure 1).
        clop_size: of CLOP's curves.
        phase_size: of the phase diagrams.
        clop: (labelled fraction, weight) of CLOP's curves.
        phase_ratio: eta / T of the first phase diagram.
        phase_weight: lambda of the second.
        grid: points along each side of a phase diagram.
    """

    ratios: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0, 1.02, 1.03, 1.05, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0)  # fmt: skip  # noqa: E501
    temperatures: tuple[float, ...] = (1.0, 0.5, 0.1)
    seeds: tuple[int, ...] = (0, 1, 2)
    size: Size = _FIGURE_1
    clop_size: Size = _CLOP
    phase_size: Size = _PHASE
    clop: tuple[tuple[float, float], ...] = ((0.0, 0.0), (0.01, 1.0), (0.1, 1.0), (0.5, 1.0), (1.0, 1.0), (0.5, 10.0))
    phase_ratio: float = 1.5
    phase_weight: float = 10.0
    grid: int = 17


def run_study(output: Path, settings: StudySettings | None = None, scene: Scene | None = None) -> list[Path]:
    """Simulate, and write into the folder `output`, each file whole or not at all.

    Returns:
        the files: collapse.csv, phase.csv, table.md, learning_rate.png/.svg, phase.png/.svg, sphere.png/.svg/.gif.

    Raises:
        UserError: the folder cannot be written.
    """
    settings = settings or StudySettings()
    plain = learning_rate_sweep(
        [Scenario(rule=rule) for rule in RULES], settings.ratios, settings.temperatures, settings.seeds, settings.size
    )
    temperature = settings.temperatures[0]
    scenarios = [Scenario(labelled_fraction=fraction, weight=weight) for fraction, weight in settings.clop]
    clop = learning_rate_sweep(scenarios, settings.ratios, [temperature], settings.seeds, settings.clop_size)
    fractions, weights, ratios = _phase_axes(settings)
    by_weight = phase_diagram(fractions, weights, settings.phase_ratio, temperature, settings.phase_size)
    columns = [
        phase_diagram(fractions, [settings.phase_weight], ratio, temperature, settings.phase_size) for ratio in ratios
    ]
    by_ratio = torch.cat(columns, dim=1)
    classes = settings.phase_size.classes
    figure = phase_figure(
        fractions,
        weights,
        by_weight,
        settings.phase_ratio,
        ratios,
        by_ratio,
        settings.phase_weight,
        temperature,
        classes,
    )
    write_text(output / "collapse.csv", _csv([row.flat() for row in (*plain, *clop)]))
    write_text(output / "phase.csv", _phase_csv(settings, fractions, weights, by_weight, ratios, by_ratio))
    write_text(output / "table.md", "\n".join(table(settings, plain, clop, fractions, weights, by_weight)) + "\n")
    return [
        *(output / name for name in ("collapse.csv", "phase.csv", "table.md")),
        *save_figure(learning_rate_figure(plain, clop), output / "learning_rate"),
        *save_figure(figure, output / "phase"),
        *save_figure(still(scene), output / "sphere"),
        animate(output / "sphere.gif", scene),
    ]


def table(
    settings: StudySettings,
    plain: Sequence[Row],
    clop: Sequence[Row],
    fractions: Sequence[float],
    weights: Sequence[float],
    by_weight: Tensor,
) -> list[str]:
    """The findings as lines of Markdown: effective rank against eta / T, then the smallest weight that keeps K."""
    shown = [ratio for ratio in settings.ratios if ratio >= 0.9] or list(settings.ratios)
    size, other = settings.size, settings.clop_size
    lines = [
        f"Effective rank (median of {len(settings.seeds)} seeds) against η/T. {size.count} points in R^{size.dim}: "
        f"repulsion alone, {size.steps} steps. {other.count} points in R^{other.dim}: with CLOP's pull to "
        f"{other.classes} prototypes, {other.steps} steps.",
        "",
        "| points | rule | T | labels | λ | " + " | ".join(f"{ratio:g}" for ratio in shown) + " |",
        "|---|---|---|---|---|" + "---|" * len(shown),
    ]
    for scenario, temperature in dict.fromkeys((row.scenario, row.temperature) for row in (*plain, *clop)):
        for rows, count in ((plain, size.count), (clop, other.count)):
            chosen = [row for row in rows if (row.scenario, row.temperature) == (scenario, temperature)]
            if chosen:
                ranks = [_median([row.effective_rank for row in chosen if row.ratio == ratio]) for ratio in shown]
                cells = " | ".join(f"{rank:.1f}" for rank in ranks)
                name = f"{scenario.rule} | {temperature:g} | {scenario.labelled_fraction:.0%} | {scenario.weight:g}"
                lines.append(f"| {count} | {name} | {cells} |")
    lines += ["", *_threshold_lines(settings), "", *_weight_lines(settings, fractions, weights, by_weight)]
    return lines


def _threshold_lines(settings: StudySettings) -> list[str]:
    size = settings.size
    if not 4 <= size.count <= size.dim + 1:
        return []
    predicted = ", ".join(
        f"{simplex_learning_rate(t, size.count, size.dim) / t:.3f} at T = {t:g}" for t in settings.temperatures
    )
    return [
        f"Predicted η/T at which the resting state of {size.count} points in R^{size.dim} turns unstable: {predicted}."
    ]


def _weight_lines(
    settings: StudySettings, fractions: Sequence[float], weights: Sequence[float], by_weight: Tensor
) -> list[str]:
    temperature, classes = settings.temperatures[0], settings.phase_size.classes
    lines = [
        f"Smallest λ from which on the rank stays at {KEPT} K or more, at η = {settings.phase_ratio:g} T, "
        f"T = {temperature:g}:",
        "",
        "| labelled fraction | measured | mean stops growing, predicted |",
        "|---|---|---|",
    ]
    for fraction, ranks in zip(fractions, by_weight.tolist(), strict=True):
        failing = [index for index, rank in enumerate(ranks) if rank < KEPT * classes]
        first = failing[-1] + 1 if failing else 0
        measured = f"{weights[first]:.3g}" if first < len(weights) else f"none up to {weights[-1]:.3g}"
        predicted = smallest_weight(settings.phase_ratio * temperature, temperature, fraction)
        ceiling = pinned_learning_rate(temperature, fraction) / temperature
        shown = f"{predicted:.3g}" if predicted != float("inf") else f"none: η past {ceiling:.2f} T"
        lines.append(f"| {fraction:.2f} | {measured} | {shown} |")
    return lines


def _phase_axes(settings: StudySettings) -> tuple[list[float], list[float], list[float]]:
    """Labelled fractions, weights (two decades about 1) and eta / T (1 to 2) of the phase diagrams."""
    steps = [index / (settings.grid - 1) for index in range(settings.grid)]
    fractions = [(index + 1) / 20 for index in range(20)]
    return fractions, [0.05 * 400**step for step in steps], [1 + step for step in steps]


def _phase_csv(
    settings: StudySettings,
    fractions: Sequence[float],
    weights: Sequence[float],
    by_weight: Tensor,
    ratios: Sequence[float],
    by_ratio: Tensor,
) -> str:
    rows: list[dict[str, str | float]] = []
    for fraction, line in zip(fractions, by_weight.tolist(), strict=True):
        rows += [_cell(settings.phase_ratio, fraction, w, rank) for w, rank in zip(weights, line, strict=True)]
    for fraction, line in zip(fractions, by_ratio.tolist(), strict=True):
        rows += [_cell(r, fraction, settings.phase_weight, rank) for r, rank in zip(ratios, line, strict=True)]
    return _csv(rows)


def _cell(ratio: float, fraction: float, weight: float, rank: float) -> dict[str, str | float]:
    return {
        "learning_rate_over_temperature": round(ratio, 6),
        "labelled_fraction": fraction,
        "weight": round(weight, 6),
        "effective_rank": round(rank, 4),
    }


def _csv(rows: Sequence[dict[str, str | float]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]
