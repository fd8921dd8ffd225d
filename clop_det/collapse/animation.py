"""Points on a sphere below, at and past the critical learning rate, with and without CLOP: an animated GIF."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from clop_det.collapse.dynamics import simulate
from clop_det.collapse.points import effective_ranks, random_points
from clop_det.collapse.style import _SETTINGS, BLUE, GREEN, INK, LINE, ORANGE, SOFT
from clop_det.collapse.sweeps import class_labels
from clop_det.files import atomic_write

CLASS_COLOURS = (ORANGE, BLUE, GREEN)
_UNLABELLED, _SPHERE = "#9aa1ac", "#f6f8fb"


@dataclass(frozen=True)
class Scene:
    """What is animated.

    Attributes:
        ratios: eta / T of the columns.
        temperature: 1.4, at which the threshold in three dimensions lies within 5 % of T, as it does in many
            dimensions at the temperatures of practice (docs/collapse.md).
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


_FRAME_MS, _FIRST_MS, _LAST_MS = 130, 900, 3000


def animate(path: Path, scene: Scene | None = None) -> Path:
    """Write the animation to `path` (GIF, endless, its last frame held for three seconds).

    Only every second step is drawn: past the threshold the cloud jumps to the other side of the sphere at each step.
    """
    scene = scene or Scene()
    tracks, labels = _simulate(scene)
    with matplotlib.rc_context(_SETTINGS):
        stage = _Stage(scene)
        frames = [stage.draw(tracks[:, frame], labels, 2 * frame) for frame in range(tracks.shape[1])]
    # One palette for all frames, without dithering: steady colours and a third of the size.
    palette = _palette()
    indexed = [_indexed(frame, palette) for frame in frames]
    durations = [_FIRST_MS, *[_FRAME_MS] * (len(frames) - 2), _LAST_MS]
    buffer = io.BytesIO()
    indexed[0].save(
        buffer, format="GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=True
    )
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
    return path


def _palette() -> NDArray[np.uint8]:
    """Every colour of the picture, thinned towards white: 8 colours at 31 strengths, and white; (256, 3)."""
    colours = np.array([matplotlib.colors.to_rgb(c) for c in (*CLASS_COLOURS, _UNLABELLED, INK, SOFT, LINE, _SPHERE)])
    strength = np.linspace(1, 0.05, 31)[:, None, None]
    blends = (strength * colours + (1 - strength)).reshape(-1, 3)
    entries = np.concatenate([np.ones((1, 3)), blends, np.ones((7, 3))])
    rounded: NDArray[np.uint8] = (entries * 255).round().astype(np.uint8)
    return rounded


def _indexed(frame: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image.Image:
    """(H, W, 3) pixels as a palette image: each colour becomes exactly the nearest entry."""
    packed = (frame.astype(np.int64) * (65536, 256, 1)).sum(axis=2)
    colours, inverse = np.unique(packed, return_inverse=True)
    rgb = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)
    nearest = ((rgb[:, None] - palette.astype(np.int64)) ** 2).sum(axis=2).argmin(axis=1)
    image = Image.fromarray(nearest[inverse].reshape(packed.shape).astype(np.uint8), mode="P")
    image.putpalette(palette.tobytes())
    return image


def still(scene: Scene | None = None) -> Figure:
    """The last frame alone, for where nothing moves."""
    scene = scene or Scene()
    tracks, labels = _simulate(scene)
    with matplotlib.rc_context(_SETTINGS):
        stage = _Stage(scene)
        stage.draw(tracks[:, -1], labels, 2 * (tracks.shape[1] - 1))
    return stage.figure


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
        axes.add_patch(matplotlib.patches.Circle((0, 0), 1, facecolor=_SPHERE, edgecolor=LINE, linewidth=1.5))
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
                    [prototype[0]],
                    [prototype[1]],
                    marker="*",
                    s=420,
                    color=colour,
                    alpha=0.55,
                    edgecolors="white",
                    linewidths=0.9,
                    zorder=3,
                )

    def show(self, points: Tensor, labels: Tensor) -> None:
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
            seen[:, 0], seen[:, 1], s=22 + 38 * near, color=colours, edgecolors="white", linewidths=0.4, zorder=4
        )
        self.caption.set_text(f"effective rank {float(effective_ranks(points)):.2f}")


class _Stage:
    """The figure with its panels, and the picture of a moment."""

    def __init__(self, scene: Scene) -> None:
        self.figure = Figure(figsize=(10, 7.3), dpi=80, facecolor="white")
        self.canvas = FigureCanvasAgg(self.figure)
        columns = len(scene.ratios)
        axes = self.figure.subplots(2, columns, squeeze=False)
        self.figure.subplots_adjust(left=0.14, right=0.995, top=0.9, bottom=0.01, wspace=0.03, hspace=0.03)
        for column, ratio in enumerate(scene.ratios):
            place = "below" if ratio < 1 else ("at" if ratio == 1 else "past")
            factor = "" if ratio == 1 else f"{ratio:g} "
            axes[0, column].set_title(f"{place} the threshold\nη = {factor}T", fontsize=14, linespacing=1.35)
        pulled = f"repulsion, and\n{scene.labelled_fraction:.0%} of points\npulled to their\nprototypes ★"
        for line, (title, detail) in enumerate((("InfoNCE", "repulsion alone"), ("CLOP", pulled))):
            place = axes[line, 0].get_position()
            height = (place.y0 + place.y1) / 2 + 0.03
            self.figure.text(0.015, height, title, fontsize=19, fontweight="bold", color=INK, va="bottom")
            self.figure.text(0.015, height - 0.008, detail, fontsize=12.5, color=SOFT, va="top", linespacing=1.4)
        self.counter = self.figure.text(0.015, 0.935, "", fontsize=14, color=SOFT)
        self.panels = [_Panel(axes[line, column], line == 1) for line in range(2) for column in range(columns)]

    def draw(self, points: Tensor, labels: list[Tensor], step: int) -> NDArray[np.uint8]:
        """The picture (H, W, 3) with (panels, n, 3) points after `step` updates."""
        self.counter.set_text(f"step {step}")
        for panel, now, marks in zip(self.panels, points, labels, strict=True):
            panel.show(now, marks)
        self.canvas.draw()
        return np.array(self.canvas.buffer_rgba())[..., :3]


def _project(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) points turned so that the viewer looks along the last coordinate, with all three axes on the near side."""
    towards = np.array([1.0, 1.25, 0.85])
    towards /= np.linalg.norm(towards)
    right = np.cross([0.0, 0.0, 1.0], towards)
    right /= np.linalg.norm(right)
    seen: NDArray[np.float64] = points @ np.stack([right, np.cross(towards, right), towards], axis=1)
    return seen


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
