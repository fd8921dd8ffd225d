"""Classification data: label splits, tables, the store of decoded images and the journal of its build."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from PIL import Image

from clop_det.data.image_list import ImageList
from clop_det.data.layouts.registry import read_images
from clop_det.data.split_files import load_split, save_split
from clop_det.data.splits import VisibleLabels
from clop_det.data.store import open_store
from clop_det.data.store_build import JOURNAL, PIXELS, SOURCES, _recover
from tests.fuzz.mutations import mutated_bytes, mutated_json, mutated_lines
from tests.fuzz.targets.target import Target


def some_images(folder: Path) -> ImageList:
    files = tuple(f"{label}/{k}.png" for label in "ab" for k in range(3))
    for number, file in enumerate(files):
        (folder / file).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 8), (number * 40, 7, 99)).save(folder / file)
    return ImageList(folder, files, torch.tensor([0, 0, 0, 1, 1, 1]), ("a", "b"))


def prepare_split(folder: Path) -> Target:
    images = some_images(folder)
    visible = VisibleLabels(torch.tensor([0, 4]), torch.tensor([0, 1]))
    save_split(folder / "split.json", images, visible, {"fraction": 0.3, "seed": 1})
    (folder / "split.txt").write_text("0.png\nb/1.png\n".replace("0.png", "a/0.png"))

    def read(_: Path) -> None:
        load_split(folder / "split.json", images)
        load_split(folder / "split.txt", images)

    return Target([("split.json", mutated_json), ("split.txt", mutated_bytes)], read)


def prepare_table(folder: Path) -> Target:
    some_images(folder)
    (folder / "train.csv").write_text("path,label\na/0.png,a\na/1.png,\nb/0.png,b\n")
    (folder / "val.csv").write_text('path,label\n"a/2.png",a\nb/1.png,"b"\n')
    files = [("train.csv", mutated_bytes), ("val.csv", mutated_bytes)]
    return Target(files, lambda _: read_images("csv", folder, "train"))


def prepare_store(folder: Path) -> Target:
    images = some_images(folder)
    whole = open_store(images, 4, folder / "cache")
    pixels = whole.images[torch.arange(6)]
    (stored,) = (folder / "cache").glob("*-4px")
    names = [str(path.relative_to(folder)) for path in sorted(stored.iterdir()) if path.is_file()]

    def read(_: Path) -> None:
        opened = open_store(images, 4, folder / "cache")
        assert torch.equal(opened.images[torch.arange(6)], pixels), "other pixels than were decoded"

    return Target([(name, mutated_json if name.endswith("json") else mutated_bytes) for name in names], read)


def prepare_journal(folder: Path) -> Target:
    """A store's build that was killed after two of three images."""
    pixels, sources = bytes(range(48)) * 2, b"s" * 64
    chunks = [pixels[:48] + sources[:32], pixels[48:] + sources[32:]]
    lines = [{"images": 1, "sha256": hashlib.sha256(chunk).hexdigest(), "replaced": {"0": 1}} for chunk in chunks]
    (folder / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))

    def read(_: Path) -> None:
        (folder / PIXELS).write_bytes(pixels)
        (folder / SOURCES).write_bytes(sources)
        state = _recover(folder, 3, 4)
        assert (folder / PIXELS).read_bytes() == pixels[: 48 * state.done], "other pixels than were decoded"

    return Target([(JOURNAL, mutated_lines)], read)
