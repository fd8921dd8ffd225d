"""One look for the pictures of this room: colours that readers who confuse red and green can tell apart."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from clop_det.files import atomic_write

# After Okabe and Ito; dark enough for lines on white.
ORANGE, BLUE, GREEN, PURPLE, OCHRE = "#d9601a", "#0f7fb8", "#12946a", "#b8569a", "#a87700"
INK, SOFT, LINE, GREY = "#1d2430", "#5a6372", "#dde2ea", "#8a8f98"

_SETTINGS = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "svg.fonttype": "path",
    # The same figure gives the same file.
    "svg.hashsalt": "clop_det",
}


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure, in inches; drawn and saved without any display."""
    with matplotlib.rc_context(_SETTINGS):
        return Figure(figsize=(width, height), dpi=110, facecolor="white")


def tidy(axes: Axes) -> None:
    """Light grid, no box."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write `figure` as `path`.png and `path`.svg, each whole or not at all; the two paths."""
    written = []
    for suffix, metadata in ((".png", None), (".svg", {"Date": None})):
        buffer = io.BytesIO()
        with matplotlib.rc_context(_SETTINGS):
            figure.savefig(buffer, format=suffix[1:], dpi=160, metadata=metadata)
        target = path.with_suffix(suffix)
        with atomic_write(target) as file:
            file.write(buffer.getvalue())
        written.append(target)
    return written
