"""One look for all figures: colours per initialisation, and SVG that follows the reader's light or dark setting."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

# Readable on white and on near-black, and told apart by readers who confuse red and green (after Okabe and Ito).
PALETTE = ("#d9601a", "#0f7fb8", "#12946a", "#b8569a", "#b58300", "#5b6ee1", "#c2413c", "#4f9d2f", "#8a6d5a", "#3aa6a6")
GREY = "#8a8f98"
MARK_OF_ROW = "row-"  # ids of a drawing that begin so, as "row-2" or "row-0-3", become data-row


@dataclass(frozen=True)
class Ink:
    """The colours that differ between paper and screen."""

    strong: str
    soft: str
    line: str


PAPER = Ink("#1d2430", "#5a6372", "#dde2ea")
# Stand-ins, replaced by CSS variables in the SVG.
SCREEN = Ink("#010203", "#040506", "#070809")
_STYLE = (
    f"<style>svg{{--ink:{PAPER.strong};--soft:{PAPER.soft};--line:{PAPER.line}}}"
    "@media screen and (prefers-color-scheme:dark){svg{--ink:#e7eaf0;--soft:#a3acba;--line:#333b47}}"
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}</style>"
)

Draw = Callable[[Figure, Ink], None]


@dataclass(frozen=True)
class Picture:
    """A figure of the report: a name for its files, what it shows, and its drawing in both formats."""

    name: str
    title: str
    caption: str
    svg: str
    png: bytes
    wide: bool = False

    @property
    def data_uri(self) -> str:
        """The SVG for an <img> that needs no network."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode()).decode()


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour per initialisation: grey for random, the palette in order for the others."""
    others = [name for name in dict.fromkeys(names) if name != "random"]
    return {"random": GREY} | {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(others)}


def render(
    name: str, title: str, caption: str, draw: Draw, size: tuple[float, float] = (5.4, 3.5), wide: bool = False
) -> Picture:
    """Draw a figure of `size` inches twice: as SVG that adapts to the page, and as PNG for paper."""
    svg = _draw(draw, size, SCREEN, "svg").decode()
    return Picture(name, title, caption, _adapt(svg), _draw(draw, size, PAPER, "png"), wide)


def _draw(draw: Draw, size: tuple[float, float], ink: Ink, file_format: str) -> bytes:
    content = io.BytesIO()
    with matplotlib.rc_context(_settings(ink)):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure, ink)
        if file_format == "svg":
            figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
        else:
            figure.savefig(content, format=file_format, dpi=150, facecolor="white")
    return content.getvalue()


def _settings(ink: Ink) -> dict[str, object]:
    nothing = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none")
    soft = dict.fromkeys(("axes.labelcolor", "xtick.color", "ytick.color"), ink.soft)
    off = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    return {
        **nothing,
        **soft,
        **off,
        "svg.fonttype": "none",
        "svg.hashsalt": "clop_det",
        "font.size": 10.5,
        "axes.edgecolor": ink.line,
        "axes.titlecolor": ink.strong,
        "axes.titlesize": 10.5,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": ink.line,
        "grid.linewidth": 0.8,
        "text.color": ink.strong,
        "text.parse_math": False,  # a name may hold dollars
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "legend.fontsize": 10,
        "lines.linewidth": 2,
    }


def _adapt(svg: str) -> str:
    for stand_in, variable in ((SCREEN.strong, "--ink"), (SCREEN.soft, "--soft"), (SCREEN.line, "--line")):
        svg = svg.replace(stand_in, f"var({variable})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"<\?xml.*?\?>\s*|<!DOCTYPE.*?>\s*|<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(rf'id="{MARK_OF_ROW}([\d-]+)"', lambda found: f'data-row="{found[1].replace("-", " ")}"', svg)
    return re.sub(r"(<svg[^>]*>)", rf"\1{_STYLE}", svg, count=1)
