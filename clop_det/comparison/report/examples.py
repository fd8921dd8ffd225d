"""Detections of every initialisation on the same test images, coloured by whether they are right."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from clop_det.comparison.names import EXAMPLES_NAME
from clop_det.comparison.report.matching import best_of_run, judge
from clop_det.comparison.report.tables import percent
from clop_det.comparison.results.reading import number, read_object
from clop_det.comparison.results.rows import Row, Setting
from clop_det.comparison.results.summary import Comparison

RIGHT, WRONG, MISSED, TRUTH = "#28c76f", "#ff5a52", "#ffd23f", "#4db8ff"
KEY: tuple[dict[str, str], ...] = (
    {"colour": RIGHT, "text": "right (IoU at least 0.5, right class)"},
    {"colour": WRONG, "text": "wrong place, wrong class or double"},
    {"colour": MISSED, "text": "missed (dashed)"},
    {"colour": TRUTH, "text": "ground truth"},
)
_SIDE = 360  # pixels of a tile's longer side
_USUAL = 0.5  # from this score on, where a run has kept nothing that says which is its best
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
    for detection in dict.fromkeys(row.setting.detection for row in comparison.rows):
        chosen: dict[str, tuple[Row, dict[str, Any]]] = {}
        for row in comparison.rows:
            label = tile_label(comparison, row.setting)
            if row.setting.detection == detection and label not in chosen and "inspect" in row.folders:
                content = _sound(read_object(row.folders["inspect"] / EXAMPLES_NAME))
                if content["images"]:
                    chosen[label] = row, content
        if chosen:
            found.append(_gallery(detection, chosen, comparison.example_score))
    return [gallery for gallery in found if gallery.scenes]


def tile_label(comparison: Comparison, setting: Setting) -> str:
    """What a picture is called: the setting, with its share of labels where there are several."""
    several = len({row.setting.label_fraction for row in comparison.rows} - {None}) > 1
    share = percent(setting.label_fraction, "labels") if several else ""
    return " · ".join(filter(None, [setting.label, share]))


def sheet(gallery: Gallery) -> bytes:
    """The whole gallery as one PNG: a line per scene."""
    tiles = [scene.tiles for scene in gallery.scenes]
    width = max(tile.image.width for line in tiles for tile in line)
    height = max(tile.image.height for line in tiles for tile in line)
    gap, head, columns = 8, 26, max(len(line) for line in tiles)
    across = columns * (width + gap) - gap
    font = ImageFont.load_default(16)
    places, foot = _key_places(across, font)
    bottom = head + len(tiles) * (height + gap)
    page = Image.new("RGB", (across, bottom + foot), "white")
    draw = ImageDraw.Draw(page)
    for entry, (left, top) in zip(KEY, places, strict=True):
        draw.rectangle((left, bottom + top + 4, left + 18, bottom + top + 16), outline=entry["colour"], width=3)
        draw.text((left + 26, bottom + top), entry["text"], fill="#1d2430", font=font)
    for column, tile in enumerate(next(line for line in tiles if len(line) == columns)):
        draw.text((column * (width + gap), 3), tile.label, fill="#1d2430", font=font)
    for line, scene in enumerate(tiles):
        for column, tile in enumerate(scene):
            page.paste(tile.image, (column * (width + gap), head + line * (height + gap)))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _key_places(across: int, font: Any) -> tuple[list[tuple[int, int]], int]:
    """(left, top) of each entry of the key below the sheet, and the height of them all."""
    places, left, top, line = [], 0, 0, 24
    for entry in KEY:
        width = 26 + round(font.getlength(entry["text"]))
        if left and left + width > across:
            left, top = 0, top + line
        places.append((left, top))
        left += width + 24
    return places, top + line


def _gallery(detection: str, chosen: dict[str, tuple[Row, dict[str, Any]]], score: float) -> Gallery:
    first = next(iter(chosen.values()))
    own = {}
    for label, (row, _) in chosen.items() if not score else ():
        if "detect" in row.folders and (best := best_of_run(row.folders["detect"])) is not None:
            own[label] = best
    scores = {label: own[label][0] if label in own else score or _USUAL for label in chosen}
    gallery = Gallery(detection, _caption(first[0].seed, scores, own))
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
                tiles.append(_judged_tile(label, image, same[0]["detections"], truth, scores[label]))
        gallery.scenes.append(Scene(f"test image {index + 1} ({Path(example['file']).name})", tiles))
    return gallery


def _caption(seed: int, scores: Mapping[str, float], own: Mapping[str, tuple[float, float]]) -> str:
    """From which score on each detector's detections are drawn, and why."""
    texts = []
    if own:
        listed = ", ".join(f"{label} {best:.2f} (F1 {f1:.2f})" for label, (best, f1) in own.items())
        texts.append(
            "Each detector's detections are drawn from the score at which its F1 on the whole test set is highest (IoU"
            f" at least 0.5): {listed}. The number behind a class is the detection's score."
        )
    others: dict[float, list[str]] = {}
    for label, score in scores.items():
        if label not in own:
            others.setdefault(score, []).append(label)
    for score, labels in others.items():
        of = f" of {', '.join(labels)}" if own else ""
        texts.append(f"Detections{of} are drawn from a score of {score:g} on.")
    return " ".join([*texts, f"Seed {seed}, after the whole of fine-tuning."])


def _judged_tile(
    label: str, image: Image.Image, detections: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]], score: float
) -> Tile:
    judged, missed = judge(detections, truth, score)
    boxes = [(item, MISSED, True) for item in missed]
    boxes += [(item, RIGHT if right else WRONG, False) for item, right in reversed(judged)]
    wrong = sum(not right for _, right in judged)
    note = f"{len(judged) - wrong} right, {wrong} wrong, {len(missed)} missed, from score {score:.2f}"
    return _tile(label, note, image, boxes)


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
        text = str(item["label"])[:60] + (f" {item['score']:.2f}".replace(" 0.", " .") if "score" in item else "")
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
