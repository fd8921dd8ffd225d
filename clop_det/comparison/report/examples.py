"""Detections of every initialisation on the same test images, coloured by whether they are right."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from clop_det.comparison.names import EXAMPLES_NAME
from clop_det.comparison.report.tables import percent
from clop_det.comparison.results.reading import number, read_object
from clop_det.comparison.results.rows import Row
from clop_det.comparison.results.summary import Comparison

RIGHT, WRONG, MISSED, TRUTH = "#28c76f", "#ff5a52", "#ffd23f", "#4db8ff"
KEY = (
    {"colour": RIGHT, "text": "right (IoU at least 0.5, right class)", "dashed": False},
    {"colour": WRONG, "text": "wrong place, wrong class or double", "dashed": False},
    {"colour": MISSED, "text": "missed", "dashed": True},
    {"colour": TRUTH, "text": "ground truth", "dashed": False},
)
_SIDE = 360  # pixels of a tile's longer side
_MATCH = 0.5  # IoU
_MOST_PIXELS, _MOST_IMAGES, _MOST_BOXES, _FAR = 1 << 26, 100, 500, 1e5  # of examples.json


@dataclass(frozen=True)
class Tile:
    """One drawn image."""

    label: str
    note: str
    image: Image.Image

    @property
    def data_uri(self) -> str:
        """The image as a JPEG that needs no network."""
        buffer = io.BytesIO()
        self.image.save(buffer, "JPEG", quality=88)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True)
class Scene:
    """A test image: its ground truth, then each initialisation's detections."""

    title: str
    tiles: list[Tile]


@dataclass(frozen=True)
class Gallery:
    """The scenes of one detection config."""

    title: str
    caption: str
    scenes: list[Scene] = field(default_factory=list)


def galleries(comparison: Comparison) -> list[Gallery]:
    """One gallery per detection config that has inspected runs; the first seed of each initialisation and share."""
    found = []
    several = len({row.setting.label_fraction for row in comparison.rows} - {None}) > 1
    for detection in dict.fromkeys(row.setting.detection for row in comparison.rows):
        chosen: dict[str, tuple[Row, dict[str, Any]]] = {}
        for row in comparison.rows:
            share = percent(row.setting.label_fraction, "labels") if several else ""
            label = " · ".join(filter(None, [row.setting.label, share]))
            if row.setting.detection == detection and label not in chosen and "inspect" in row.folders:
                content = _sound(read_object(row.folders["inspect"] / EXAMPLES_NAME))
                if content["images"]:
                    chosen[label] = row, content
        if chosen:
            found.append(_gallery(detection, chosen, comparison.example_score))
    return [gallery for gallery in found if gallery.scenes]


def sheet(gallery: Gallery) -> bytes:
    """The whole gallery as one PNG: a line per scene."""
    tiles = [scene.tiles for scene in gallery.scenes]
    width = max(tile.image.width for line in tiles for tile in line)
    height = max(tile.image.height for line in tiles for tile in line)
    gap, head, columns = 8, 26, max(len(line) for line in tiles)
    page = Image.new("RGB", (columns * (width + gap) - gap, head + len(tiles) * (height + gap) - gap), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(16)
    for column, tile in enumerate(next(line for line in tiles if len(line) == columns)):
        draw.text((column * (width + gap), 3), tile.label, fill="#1d2430", font=font)
    for line, scene in enumerate(tiles):
        for column, tile in enumerate(scene):
            page.paste(tile.image, (column * (width + gap), head + line * (height + gap)))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def judge(
    detections: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]], score: float
) -> tuple[list[tuple[dict[str, Any], bool]], list[dict[str, Any]]]:
    """Match detections of at least `score`, best first, to ground truth of their class.

    Returns:
        (detection, whether it is right) for each, and the ground truth that nothing matched. A ground-truth box is
        matched once, by the best-scored detection that overlaps it with IoU >= 0.5.
    """
    free = list(truth)
    judged = []
    for detection in sorted(detections, key=lambda item: -item["score"]):
        if detection["score"] < score:
            continue
        same = [item for item in free if item["label"] == detection["label"]]
        best = max(same, key=lambda item: iou(item["box"], detection["box"]), default=None)
        right = best is not None and iou(best["box"], detection["box"]) >= _MATCH
        if right:
            free = [item for item in free if item is not best]
        judged.append((detection, right))
    return judged, free


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _gallery(detection: str, chosen: dict[str, tuple[Row, dict[str, Any]]], score: float) -> Gallery:
    first = next(iter(chosen.values()))
    gallery = Gallery(
        detection,
        f"Detections with a score of at least {score:g}; seed {first[0].seed}, after the whole of fine-tuning.",
    )
    for index, example in enumerate(first[1]["images"]):
        image = _open(first[0].folders["inspect"], example["image"])
        if image is None:
            continue
        truth = example["ground_truth"]
        tiles = [_tile("ground truth", f"{len(truth)} objects", image, [(item, TRUTH, False) for item in truth])]
        for label, (_, content) in chosen.items():
            # Two images of one name in different folders differ in their place.
            twins = (item for item in content["images"] if item["file"] == example["file"])
            same = [item for item in twins if item["image"] == example["image"]]
            if same:
                tiles.append(_judged_tile(label, image, same[0]["detections"], truth, score))
        gallery.scenes.append(Scene(f"test image {index + 1} ({Path(example['file']).name})", tiles))
    return gallery


def _judged_tile(
    label: str, image: Image.Image, detections: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]], score: float
) -> Tile:
    judged, missed = judge(detections, truth, score)
    boxes = [(item, MISSED, True) for item in missed]
    boxes += [(item, RIGHT if right else WRONG, False) for item, right in reversed(judged)]
    wrong = sum(not right for _, right in judged)
    return _tile(label, f"{len(judged) - wrong} right, {wrong} wrong, {len(missed)} missed", image, boxes)


def _tile(label: str, note: str, image: Image.Image, boxes: Sequence[tuple[dict[str, Any], str, bool]]) -> Tile:
    scale = _SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    canvas = image.resize(size, Image.Resampling.BICUBIC)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for item, colour, dashed in boxes:
        x0, y0, x1, y1 = (round(min(max(value * scale, -_SIDE), 2 * _SIDE)) for value in item["box"])
        x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
        if dashed:
            _dashed(draw, (x0, y0, x1, y1), colour)
        else:
            draw.rectangle((x0, y0, x1, y1), outline=colour, width=2)
        text = str(item["label"])[:60]
        _, _, right, bottom = draw.textbbox((0, 0), text, font=font)
        place = (min(x0, canvas.width - right - 5), max(0, y0 - bottom - 3))
        draw.rectangle((*place, place[0] + right + 4, place[1] + bottom + 3), fill=colour)
        draw.text((place[0] + 2, place[1] + 1), text, fill="#10141a", font=font)
    return Tile(label, note, canvas)


def _dashed(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], colour: str, dash: int = 6) -> None:
    x0, y0, x1, y1 = box
    for start in range(x0, x1, 2 * dash):
        for y in (y0, y1):
            draw.line((start, y, min(start + dash, x1), y), fill=colour, width=2)
    for start in range(y0, y1, 2 * dash):
        for x in (x0, x1):
            draw.line((x, start, x, min(start + dash, y1)), fill=colour, width=2)


def _open(folder: Path, name: str) -> Image.Image | None:
    """An image that the inspection left in its own folder; None if there is none, or one that would fill the memory."""
    path = folder / name
    try:
        if path.name != name or path.resolve().parent != folder.resolve() or not path.is_file():
            return None
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            return image.convert("RGB") if 0 < image.width * image.height <= _MOST_PIXELS else None
    except Exception:  # Pillow raises nearly anything for a damaged file
        return None


def _sound(content: dict[str, Any]) -> dict[str, Any]:
    """{"images": ...} with the images and boxes of examples.json that have the expected form."""
    images = content.get("images")
    found = []
    for item in images[:_MOST_IMAGES] if isinstance(images, list) else []:
        if isinstance(item, dict) and isinstance(item.get("file"), str) and isinstance(item.get("image"), str):
            boxes = {
                key: [box for box in item[key][:_MOST_BOXES] if _is_box(box, key == "detections")]
                for key in ("ground_truth", "detections")
                if isinstance(item.get(key), list)
            }
            found.append({"ground_truth": [], "detections": [], **boxes, "file": item["file"], "image": item["image"]})
    return {"images": found}


def _is_box(item: Any, scored: bool) -> bool:
    return (
        isinstance(item, dict)
        and isinstance(item.get("label"), str | int)
        and isinstance(item.get("box"), list)
        and len(item["box"]) == 4
        and all(number(value, -_FAR, _FAR) for value in item["box"])
        and (not scored or number(item.get("score"), 0, 1))
    )
