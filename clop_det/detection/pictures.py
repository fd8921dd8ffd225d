"""Pictures at the end of a run: detections beside ground truth, and precision over recall for each class."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clop_det.detection.ground_truth import Detections, GroundTruth
from clop_det.detection.images import read_image
from clop_det.detection.voc_metric import Curve
from clop_det.files import atomic_write

_COLOURS = (
    "#4db8ff",
    "#ff5a52",
    "#28c76f",
    "#ffd23f",
    "#c77dff",
    "#ff9f43",
    "#00cfe8",
    "#f06595",
    "#94d82d",
    "#e9ecef",
)
_SIDE = 320  # pixels of a tile's longer side
_GAP = 6
_HEAD = 22


def chosen_images(truth: GroundTruth, count: int) -> list[int]:
    """Indices of up to `count` images that hold a box, spread evenly over the test set: the same for every run."""
    having = np.unique(truth.image)
    if not len(having):
        return []
    places = np.linspace(0, len(having) - 1, min(count, len(having))).round().astype(int)
    return [int(i) for i in having[np.unique(places)]]


def draw_detections(
    path: Path,
    records: Sequence[dict[str, Any]],
    truth: GroundTruth,
    found: Detections,
    count: int,
    score: float = 0.5,
) -> list[int]:
    """Write a PNG with a line per chosen image: ground truth left, detections of at least `score` right.

    Returns:
        indices of the images drawn.
    """
    images = chosen_images(truth, count)
    lines = []
    for i in images:
        pixels = read_image(records[i], "RGB")
        mine, theirs = truth.image == i, (found.image == i) & (found.score >= score)
        names = [truth.classes[k] for k in truth.category[mine]]
        left = _drawn(pixels, truth.box[mine], truth.category[mine], names)
        labels = [
            f"{truth.classes[k]} {s:.2f}" for k, s in zip(found.category[theirs], found.score[theirs], strict=True)
        ]
        lines.append((left, _drawn(pixels, found.box[theirs], found.category[theirs], labels)))
    if lines:
        _save_sheet(path, lines, ("ground truth", f"detections, score at least {score:g}"))
    return images


def _drawn(pixels: Any, boxes: Any, categories: Any, labels: Sequence[str]) -> Image.Image:
    image = Image.fromarray(pixels)
    scale = _SIDE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    for box, category, label in zip(boxes, categories, labels, strict=True):
        colour = _COLOURS[int(category) % len(_COLOURS)]
        x1, y1, x2, y2 = (float(value) * scale for value in box)
        draw.rectangle((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), outline=colour, width=2)
        place = draw.textbbox((x1 + 1, max(0.0, y1 - 14)), label, font=font)
        draw.rectangle(place, fill=colour)
        draw.text(place[:2], label, fill="black", font=font, anchor="lt")
    return image


def _save_sheet(path: Path, lines: Sequence[tuple[Image.Image, Image.Image]], heads: tuple[str, str]) -> None:
    width = max(left.width for left, _ in lines)
    height = _HEAD + sum(left.height + _GAP for left, _ in lines)
    sheet = Image.new("RGB", (2 * width + _GAP, height), "white")
    draw, top = ImageDraw.Draw(sheet), _HEAD
    for column, head in enumerate(heads):
        draw.text((column * (width + _GAP), 3), head, fill="black", font=ImageFont.load_default(14))
    for left, right in lines:
        sheet.paste(left, (0, top))
        sheet.paste(right, (width + _GAP, top))
        top += left.height + _GAP
    with atomic_write(path) as file:
        sheet.save(file, "PNG")


def draw_curves(path: Path, curves: Sequence[Curve], classes: Sequence[str], average: dict[str, float]) -> None:
    """Write a PNG with precision over recall at overlap 0.5, a line per class.

    Args:
        average: class -> AP in percent, for the legend.
    """
    # The object interface: pyplot would pick a window system and keep every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.5), dpi=110)
    axes = figure.add_subplot()
    for k, (curve, name) in enumerate(zip(curves, classes, strict=True)):
        label = f"{name} ({average.get(name, 0.0):.1f})" if len(classes) <= 20 else None
        axes.step(curve.recall, curve.precision, where="post", color=_COLOURS[k % len(_COLOURS)], label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title="precision over recall, IoU 0.5")
    if len(classes) <= 20:
        axes.legend(title="class (AP50)", fontsize=8)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
