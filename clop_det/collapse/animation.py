"""Points on a sphere below, at and past the critical learning rate, with and without CLOP: an animated GIF."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.animation import PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from clop_det.collapse.dynamics import simulate
from clop_det.collapse.points import effective_ranks, random_points
from clop_det.collapse.style import _SETTINGS, BLUE, GREEN, INK, LINE, ORANGE, SOFT
from clop_det.collapse.sweeps import class_labels
from clop_det.files import atomic_write

CLASS_COLOURS = (ORANGE, BLUE, GREEN)
_UNLABELLED = "#9aa1ac"


@dataclass(frozen=True)
class Scene:
    """What is animated.

    Attributes:
        ratios: eta / T of the columns.
        temperature: 1.4, at which the threshold in three dimensions lies within 5 % of T, as it does in many
            dimensions at the temperatures of practice (see `thresholds.uniform_learning_rate`).
        weight: lambda of the lower row.
        labelled_fraction: of the lower row.
        count: number of points.
        steps: number of updates.
        seed: of the starting points.
    """

    ratios: tuple[float, ...] = (0.5, 1.0, 1.3)
    temperature: float = 1.4
    weight: float = 2.0
    labelled_fraction: float = 0.5
    count: int = 90
    steps: int = 60
    seed: int = 0


def animate(path: Path, scene: Scene | None = None, hold: int = 12) -> Path:
    """Write the animation to `path` (GIF); its last frame stays for `hold` frames.

    Only every second step is drawn: past the threshold the cloud jumps to the other side of the sphere at each step.
    """
    scene = scene or Scene()
    tracks, labels = _simulate(scene)
    with matplotlib.rc_context(_SETTINGS):
        figure, panels = _stage(scene)
        descriptor, temporary = tempfile.mkstemp(suffix=".gif")
        os.close(descriptor)
        try:
            writer = PillowWriter(fps=8)
            with writer.saving(figure, temporary, dpi=80):
                for frame in [*range(tracks.shape[1]), *[tracks.shape[1] - 1] * hold]:
                    for panel, track, marks in zip(panels, tracks, labels, strict=True):
                        panel.show(track[frame], marks, 2 * frame)
                    writer.grab_frame()
            content = Path(temporary).read_bytes()
        finally:
            os.unlink(temporary)
    with atomic_write(path) as file:
        file.write(content)
    return path


def still(scene: Scene | None = None) -> Figure:
    """The last frame alone, for where nothing moves."""
    scene = scene or Scene()
    tracks, labels = _simulate(scene)
    with matplotlib.rc_context(_SETTINGS):
        figure, panels = _stage(scene)
        for panel, track, marks in zip(panels, tracks, labels, strict=True):
            panel.show(track[-1], marks, scene.steps)
    return figure


def _simulate(scene: Scene) -> tuple[Tensor, list[Tensor]]:
    """Positions (panels, frames, n, 3) and labels (n,) of each panel; the upper row, then the lower."""
    start = random_points(scene.count, 3, [scene.seed]).expand(len(scene.ratios), -1, -1)
    rates = torch.tensor(scene.ratios) * scene.temperature
    plain = simulate(start, rates, scene.temperature, steps=scene.steps, every=2)
    labels = class_labels(scene.count, scene.labelled_fraction, 3)
    pulled = simulate(
        start, rates, scene.temperature, weight=scene.weight, labels=labels, prototypes=torch.eye(3),
        steps=scene.steps, every=2,
    )  # fmt: skip
    count = len(scene.ratios)
    return torch.cat([plain, pulled], dim=1).transpose(0, 1), [labels * 0 - 1] * count + [labels] * count


class _Panel:
    """One sphere, drawn by parallel projection: far points small and pale, near points large."""

    def __init__(self, axes: Axes, pulled: bool) -> None:
        self.axes, self.pulled = axes, pulled
        axes.set_aspect("equal")
        axes.axis("off")
        axes.set_xlim(-1.12, 1.12)
        axes.set_ylim(-1.28, 1.12)
        axes.add_patch(matplotlib.patches.Circle((0, 0), 1, facecolor="#f6f8fb", edgecolor=LINE, linewidth=1.5))
        for circle in _graticule():
            seen = _project(circle)
            front = np.ma.masked_where(seen[:, 2] < 0, seen[:, 1])
            axes.plot(seen[:, 0], front, color=LINE, linewidth=0.8)
        self.dots = axes.scatter([], [])
        self.caption = axes.text(0, -1.22, "", ha="center", fontsize=12.5, color=SOFT)
        if pulled:
            for prototype, colour in zip(_project(np.eye(3)), CLASS_COLOURS, strict=True):
                axes.plot([0, prototype[0]], [0, prototype[1]], color=colour, linewidth=1.2, alpha=0.5)
                axes.scatter(
                    *prototype[:2], marker="*", s=190, color=colour, edgecolors="white", linewidths=0.9, zorder=6
                )

    def show(self, points: Tensor, labels: Tensor, step: int) -> None:
        """Replace the dots by (n, 3) `points` with their (n,) labels."""
        seen = _project(points.numpy().astype(np.float64))
        order = np.argsort(seen[:, 2])
        seen, marks = seen[order], labels.numpy()[order]
        near = (seen[:, 2] + 1) / 2
        named = [CLASS_COLOURS[m] if m >= 0 else (_UNLABELLED if self.pulled else BLUE) for m in marks]
        colours = matplotlib.colors.to_rgba_array(named)
        colours[:, 3] = 0.22 + 0.7 * near
        self.dots.remove()
        self.dots = self.axes.scatter(
            seen[:, 0], seen[:, 1], s=12 + 26 * near, color=colours, edgecolors="white", linewidths=0.4, zorder=4
        )
        self.caption.set_text(f"effective rank {float(effective_ranks(points)):.2f}")
        del step


def _stage(scene: Scene) -> tuple[Figure, list[_Panel]]:
    figure = Figure(figsize=(10, 7.3), dpi=80, facecolor="white")
    axes = figure.subplots(2, len(scene.ratios), squeeze=False)
    figure.subplots_adjust(left=0.13, right=0.995, top=0.91, bottom=0.01, wspace=0.03, hspace=0.03)
    names = {0: "below the threshold", 1: "at the threshold", 2: "past the threshold"}
    for column, ratio in enumerate(scene.ratios):
        title = f"{names[column]}\n" if len(scene.ratios) == 3 else ""
        axes[0, column].set_title(f"{title}η = {ratio:g} T", fontsize=14, color=INK, linespacing=1.35)
    for line, (title, detail) in enumerate((
        ("InfoNCE", "repulsion"),
        ("CLOP", f"repulsion and\n{scene.labelled_fraction:.0%} labelled,\npulled to\nprototypes ★"),
    )):  # fmt: skip
        middle = axes[line, 0].get_position()
        height = (middle.y0 + middle.y1) / 2 + 0.03
        figure.text(0.018, height, title, fontsize=18, fontweight="bold", color=INK, va="bottom")
        figure.text(0.018, height - 0.008, detail, fontsize=12, color=SOFT, va="top", linespacing=1.4)
    return figure, [_Panel(axes[line, c], line == 1) for line in range(2) for c in range(len(scene.ratios))]


def _project(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) points turned so that the viewer looks along the last coordinate, with all three axes on the near side."""
    towards = np.array([1.0, 1.25, 0.85])
    towards /= np.linalg.norm(towards)
    right = np.cross([0.0, 0.0, 1.0], towards)
    right /= np.linalg.norm(right)
    return points @ np.stack([right, np.cross(towards, right), towards], axis=1)


def _graticule() -> list[NDArray[np.float64]]:
    """Circles of latitude and longitude, (m, 3) each."""
    turn = np.linspace(0, 2 * np.pi, 121)
    circles = []
    for latitude in np.deg2rad([-60, -30, 0, 30, 60]):
        ring = np.cos(latitude) * np.stack([np.cos(turn), np.sin(turn)])
        circles.append(np.stack([*ring, np.full_like(turn, np.sin(latitude))], axis=1))
    for longitude in np.deg2rad(range(0, 180, 30)):
        circles.append(
            np.stack([np.cos(turn) * np.cos(longitude), np.cos(turn) * np.sin(longitude), np.sin(turn)], axis=1)
        )
    return circles
