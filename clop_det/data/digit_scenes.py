"""Digit scenes: whole digits of many sizes among fragments of others, the same images as Pascal VOC and as COCO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pycocotools.mask as mask_util
from PIL import Image

from clop_det.data.digits import (
    CLASSES,
    DIGIT_CONTRAST,
    FRAGMENT_CONTRAST,
    SOURCE,
    Pixels,
    digit_pool,
    draw_background,
    draw_fragment,
    draw_glyph,
    image_rng,
    inked,
    paste,
    uniform,
)
from clop_det.files import write_json, write_text

# The split of the scenes -> the pool of source digits that they are made of.
SPLIT_POOLS = {"train": "train", "val": "test", "test": "test"}
_OVERLAP = 0.04  # largest share of the smaller of two boxes that may be covered by the other
_TRIES = 20  # places tried for a digit before it is left out


@dataclass(frozen=True)
class SceneObject:
    """A digit in a scene: label, index of its source digit, box of its ink in pixels from 0 (x1 and y1 are outside)."""

    label: int
    source: int
    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class Scene:
    """A rendered scene: pixels (S, S, 3), its whole digits, and the source digits of its fragments.

    `owners` (S, S) says whose ink a pixel shows: 1 for the first of `objects`, 2 for the second, ..., 0 for no digit.
    """

    pixels: Pixels
    owners: Pixels
    objects: tuple[SceneObject, ...]
    fragments: tuple[int, ...]


def draw_scene(split: str, index: int, size: int, seed: int) -> Scene:
    """Scene `index` of a split: up to 6 digits, 14 to 45 % of the side high, that hardly overlap."""
    rng = image_rng(seed, "scenes", split, index)
    pool = digit_pool(SPLIT_POOLS[split])
    canvas = draw_background(size, size, rng)
    fragments = []
    for _ in range(rng.randint(8, 17)):
        fragments.append(pool.pick_for_fragment(rng))
        piece = draw_fragment(fragments[-1], int(size * uniform(rng, 0.14, 0.4)), rng)
        x, y = (rng.randint(-extent // 2, size - extent // 2) for extent in (piece.shape[1], piece.shape[0]))
        paste(canvas, piece, x, y, rng, FRAGMENT_CONTRAST)
    owners = np.zeros((size, size), dtype=np.uint8)
    objects: list[SceneObject] = []
    for _ in range(rng.randint(2, 7)):
        source = pool.pick(rng, label := rng.randint(len(CLASSES)))
        # Sides uniform in the logarithm: as many small digits as large ones.
        glyph = draw_glyph(source, int(size * 0.14 * (0.45 / 0.14) ** uniform(rng, 0, 1)), rng)
        placed = _place(glyph, size, objects, rng, label, source)
        if placed is not None:
            objects.append(placed)
            paste(canvas, glyph, placed.x0, placed.y0, rng, DIGIT_CONTRAST)
            owners[placed.y0 : placed.y1, placed.x0 : placed.x1][inked(glyph)] = len(objects)
    return Scene(canvas, owners, tuple(objects), tuple(fragments))


def _place(
    glyph: Pixels, size: int, others: list[SceneObject], rng: np.random.RandomState, label: int, source: int
) -> SceneObject | None:
    """A free place for a glyph inside the scene, or None if none was found."""
    height, width = glyph.shape
    for _ in range(_TRIES):
        x, y = rng.randint(size - width + 1), rng.randint(size - height + 1)
        placed = SceneObject(label, source, x, y, x + width, y + height)
        if all(_covered(placed, other) <= _OVERLAP for other in others):
            return placed
    return None


def _covered(a: SceneObject, b: SceneObject) -> float:
    """Area of the intersection of two boxes as a share of the smaller box."""
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    smaller = min((box.x1 - box.x0) * (box.y1 - box.y0) for box in (a, b))
    return max(width, 0) * max(height, 0) / smaller


def write_scenes(folder: Path, *, train: int, val: int, test: int, size: int, seed: int) -> None:
    """Write the scenes in both layouts.

    * `VOC2007/JPEGImages/*.jpg`, `VOC2007/Annotations/*.xml`, `VOC2007/ImageSets/Main/{train,val,trainval,test}.txt`;
    * `annotations/instances_{train,val,test}.json` over `VOC2007/JPEGImages`, with the masks of the digits' visible ink
      (run-length codes; `area` is theirs, as in COCO) and two more fields: `source_digit` of an annotation and
      `fragment_digits` of an image, indices into the source set;
    * `manifest.json`: the source digits of every image.

    The images are JPEG, as the VOC layout wants: quality 95 without chroma subsampling.
    """
    voc = folder / "VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (voc / name).mkdir(parents=True)
    names: dict[str, list[str]] = {}
    manifest: dict[str, dict[str, Any]] = {}
    number = 0
    for split, count in (("train", train), ("val", val), ("test", test)):
        coco = _empty_coco()
        names[split] = []
        for index in range(count):
            scene = draw_scene(split, index, size, seed)
            number += 1
            name = f"{number:06d}"
            names[split].append(name)
            Image.fromarray(scene.pixels).save(voc / "JPEGImages" / f"{name}.jpg", quality=95, subsampling=0)
            (voc / "Annotations" / f"{name}.xml").write_text(_voc_xml(name, scene), encoding="utf-8")
            _add_to_coco(coco, number, f"{name}.jpg", scene)
            sources = [item.source for item in scene.objects]
            manifest[f"{name}.jpg"] = {"split": split, "digits": sources, "fragments": list(scene.fragments)}
        write_json(folder / "annotations" / f"instances_{split}.json", coco)
    names["trainval"] = names["train"] + names["val"]
    for split, members in names.items():
        write_text(voc / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{name}\n" for name in members))
    write_json(folder / "manifest.json", {"source": SOURCE, "images": manifest})


def _voc_xml(name: str, scene: Scene) -> str:
    """A VOC annotation; its pixels count from 1 and both corners are inside the box."""
    height, width = scene.pixels.shape[:2]
    lines = [
        "<annotation>",
        "\t<folder>VOC2007</folder>",
        f"\t<filename>{name}.jpg</filename>",
        f"\t<source><database>digit scenes</database><image>{escape(SOURCE)}</image></source>",
        f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
        "\t<segmented>0</segmented>",
    ]
    for item in scene.objects:
        lines += [
            "\t<object>",
            f"\t\t<name>{CLASSES[item.label]}</name>",
            "\t\t<pose>Unspecified</pose>",
            "\t\t<truncated>0</truncated>",
            "\t\t<difficult>0</difficult>",
            f"\t\t<bndbox><xmin>{item.x0 + 1}</xmin><ymin>{item.y0 + 1}</ymin>"
            f"<xmax>{item.x1}</xmax><ymax>{item.y1}</ymax></bndbox>",
            "\t</object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _empty_coco() -> dict[str, list[dict[str, Any]]]:
    categories = [{"id": label + 1, "name": name, "supercategory": "digit"} for label, name in enumerate(CLASSES)]
    return {"images": [], "annotations": [], "categories": categories}


def _add_to_coco(coco: dict[str, list[dict[str, Any]]], number: int, file: str, scene: Scene) -> None:
    height, width = scene.pixels.shape[:2]
    coco["images"].append(
        {"id": number, "file_name": file, "width": width, "height": height, "fragment_digits": list(scene.fragments)}
    )
    for owner, item in enumerate(scene.objects, start=1):
        mask = scene.owners == owner
        code = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
        coco["annotations"].append(
            {
                "id": len(coco["annotations"]) + 1,
                "image_id": number,
                "category_id": item.label + 1,
                "bbox": [item.x0, item.y0, item.x1 - item.x0, item.y1 - item.y0],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": {"size": code["size"], "counts": code["counts"].decode("ascii")},
                "source_digit": item.source,
            }
        )
