"""Pictures without pixels: to render matplotlib's figures takes longer than most runs of tests that draw some."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tests.comparison.fake_job import PIXEL

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"></svg>'


@contextmanager
def unrendered() -> Iterator[None]:
    """Figures are composed as ever, and saved as one pixel or as an empty SVG."""

    def save(figure: Figure, file: IO[bytes], format: str = "png", **_: Any) -> None:
        file.write(SVG if format == "svg" else PIXEL)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", save)
        patch.setattr(FigureCanvasAgg, "draw", lambda canvas: canvas.get_renderer())
        patch.setattr(FigureCanvasAgg, "print_png", lambda canvas, file: save(canvas.figure, file))
        yield
