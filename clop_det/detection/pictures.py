"""Pictures at the end of a run: detections beside ground truth, and precision over recall for each class."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from clop_det.annotations.images import read_image
from clop_det.annotations.segmentation import mask_pixels
from clop_det.detection.ground_truth import Detections, GroundTruth
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
_A_PANEL = 10  # as many as matplotlib has colours
_AN_END = 80  # classes that are drawn of each end, where there are too many


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

    The masks of a detector that has them, and of its ground truth, are tinted; other pictures show boxes alone. A class
    is told by its colour, with a key on top, where there are enough colours; otherwise by a label on each box.

    Returns:
        indices of the images drawn.
    """
    images = chosen_images(truth, count)
    by_colour = len(truth.classes) <= len(_COLOURS)
    lines = []
    for i in images:
        pixels = read_image(records[i], "RGB")
        mine, theirs = truth.image == i, (found.image == i) & (found.score >= score)
        names = ["" if by_colour else _plain(truth.classes[k]) for k in truth.category[mine]]
        shown = pixels if found.masks is None else _tinted(pixels, truth.masks, mine, truth.category)
        left = _drawn(shown, truth.box[mine], truth.category[mine], names)
        labels = [
            f"{s:.2f}" if by_colour else f"{_plain(truth.classes[k])} {s:.2f}"
            for k, s in zip(found.category[theirs], found.score[theirs], strict=True)
        ]
        shown = pixels if found.masks is None else _tinted(pixels, found.masks, theirs, found.category)
        lines.append((left, _drawn(shown, found.box[theirs], found.category[theirs], labels)))
    if lines:
        heads = ("ground truth", f"detections, score at least {score:g}")
        _save_sheet(path, lines, heads, truth.classes if by_colour else ())
    return images


def draw_found(path: Path, pixels: Any, found: dict[str, Any], kept: Any, classes: Sequence[str]) -> None:
    """Write the image (H, W, 3) in its own size with the `kept` boxes of what `pack_instances` gave, labelled."""
    shown = _tinted(pixels, found["masks"], kept, found["category"]) if "masks" in found else pixels
    pairs = zip(found["category"][kept], found["score"][kept], strict=True)
    labels = [f"{_plain(classes[k])} {score:.2f}" for k, score in pairs]
    image = _drawn(shown, found["box"][kept], found["category"][kept], labels, max(pixels.shape[:2]))
    with atomic_write(path) as file:
        image.save(file, "PNG")


def _plain(name: Any) -> str:
    """A class name on one line of print: COCO files may number their classes, XML may break lines in them."""
    return "".join(c if c.isprintable() else " " for c in str(name))


def _tinted(pixels: Any, masks: Sequence[Any], chosen: Any, categories: Any) -> Any:
    """The pixels (H, W, 3) with the chosen masks blended half into their classes' colours."""
    tinted = pixels.copy()
    for k in np.flatnonzero(chosen).tolist():
        inside = mask_pixels(masks[k], *pixels.shape[:2])
        tinted[inside] = (tinted[inside].astype(int) + ImageColor.getrgb(_colour(categories[k]))) // 2
    return tinted


def _colour(category: Any) -> str:
    return _COLOURS[int(category) % len(_COLOURS)]


def _drawn(pixels: Any, boxes: Any, categories: Any, labels: Sequence[str], side: int = _SIDE) -> Image.Image:
    image = Image.fromarray(pixels)
    scale = side / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.resize(size, Image.Resampling.BICUBIC)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    for box, category, label in zip(boxes, categories, labels, strict=True):
        colour = _colour(category)
        x1, y1, x2, y2 = (float(value) * scale for value in box)
        draw.rectangle((min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), outline=colour, width=2)
        if not label:
            continue
        place = draw.textbbox((x1 + 1, max(0.0, y1 - 14)), label, font=font)
        draw.rectangle(place, fill=colour)
        draw.text(place[:2], label, fill="black", font=font, anchor="lt")
    return image


def _save_sheet(
    path: Path, lines: Sequence[tuple[Image.Image, Image.Image]], heads: tuple[str, str], key: Sequence[str]
) -> None:
    width = max(left.width for left, _ in lines)
    swatches = _key(key, 2 * width + _GAP)
    top = swatches.height + _HEAD
    sheet = Image.new("RGB", (2 * width + _GAP, top + sum(left.height + _GAP for left, _ in lines)), "white")
    sheet.paste(swatches, (0, 0))
    draw = ImageDraw.Draw(sheet)
    for column, head in enumerate(heads):
        place = (column * (width + _GAP), swatches.height + 3)
        draw.text(place, head, fill="black", font=ImageFont.load_default(14))
    for left, right in lines:
        sheet.paste(left, (0, top))
        sheet.paste(right, (width + _GAP, top))
        top += left.height + _GAP
    with atomic_write(path) as file:
        sheet.save(file, "PNG")


def _key(classes: Sequence[str], width: int) -> Image.Image:
    """A coloured square and the name of every class, in as many lines as it takes."""
    font = ImageFont.load_default(13)
    names = [_plain(name) for name in classes]
    places, x, y = [], 0, 3
    for name in names:
        taken = 34 + int(font.getlength(name))
        if x and x + taken > width:
            x, y = 0, y + 18
        places.append((x, y))
        x += taken
    image = Image.new("RGB", (width, y + 18 if names else 1), "white")
    draw = ImageDraw.Draw(image)
    for name, colour, (x, y) in zip(names, _COLOURS, places, strict=False):
        draw.rectangle((x + 1, y + 1, x + 12, y + 12), fill=colour, outline="black")
        draw.text((x + 17, y), name, fill="black", font=font)
    return image


def draw_curves(path: Path, curves: Sequence[Curve], classes: Sequence[str], average: dict[int, float]) -> None:
    """Write a PNG with precision over recall at overlap 0.5, a line per class, ten classes a panel, best first.

    Of more than 160 classes the best and the worst 80.

    Args:
        average: index of each class that the test set has -> AP in percent, for the legend and the order; the others
            are not drawn.
    """
    # The object interface: pyplot would pick a window system and keep every figure.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    order = sorted(average, key=lambda k: -average[k])
    absent, left_out = len(classes) - len(order), max(0, len(order) - 2 * _AN_END)
    order = [*order[:_AN_END], *order[-_AN_END:]] if left_out else order
    panels = [order[start : start + _A_PANEL] for start in range(0, len(order), _A_PANEL)] or [[]]
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6.5 if columns == 1 else 4.5 * columns, 4.5 * rows), dpi=110, layout="constrained")
    for place, members in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        for colour, k in enumerate(members):
            name = f"{_plain(classes[k])}  {average[k]:.1f}"
            recall, precision = curves[k].recall, curves[k].precision
            if len(recall):  # from the axis on
                recall, precision = np.concatenate(([0.0], recall)), np.concatenate((precision[:1], precision))
            axes.plot(recall, precision, color=f"C{colour}", label=name, lw=1.5)
        axes.set(xlim=(0, 1.01), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        axes.grid(alpha=0.3)
        if members:
            legend = axes.legend(title="class, AP50", fontsize=8, title_fontsize=8)
            for text in legend.get_texts():
                text.set_parse_math(False)  # a class may be called "$\\frac$"
    without = f"; {absent} classes without a box in the test set left out" if absent else ""
    without += f"; {left_out} classes between these are not drawn" if left_out else ""
    figure.suptitle(f"Precision over recall, IoU 0.5, difficult boxes left out{without}", fontsize=11)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
