"""Decoding a list of images into the files of a store, in chunks; a killed build goes on where it was.

Beside the pixels lies a journal with one line a finished chunk: how many images, the SHA-256 of their pixels and of
their sources, and what was replaced. Going on, the pixels on disk are compared with the journal chunk by chunk; from
the first that does not match (written but not recorded, or recorded but lost with the power) all is decoded again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from clop_det.data.decoding import centre_square
from clop_det.data.image_list import ImageList
from clop_det.data.unreadable import Unreadable
from clop_det.engine.workers import cores
from clop_det.files import write_json

FORMAT = "clop_det image store 2"
PIXELS, HEADER, SOURCES, JOURNAL = "images.u8", "store.json", "sources.sha256", "journal.jsonl"
CHUNK = 512  # images decoded between two lines of the journal
_PROGRESS_FROM = 5000  # images from which a progress bar is shown

_log = logging.getLogger(__name__)


@dataclass
class _State:
    """How far a build is."""

    done: int = 0
    pixels: Any = field(default_factory=hashlib.sha256)
    sources: Any = field(default_factory=hashlib.sha256)
    replaced: dict[int, int] = field(default_factory=dict)

    def add(self, pixels: bytes, sources: bytes, replaced: dict[int, int]) -> None:
        self.done += len(sources) // 32
        self.pixels.update(pixels)
        self.sources.update(sources)
        self.replaced.update(replaced)


def decode_store(images: ImageList, size: int, unreadable: Unreadable, folder: Path) -> None:
    """Write the files of a store into `folder`, which is empty or what a killed build left.

    Raises:
        UserError: an unreadable image, or too many of them.
        OSError: the disk is full, ...
    """
    state = _recover(folder, len(images), size)
    if state.done:
        _log.info("decoding goes on: %d of %d images are there", state.done, len(images))
    workers = min(8, cores())
    progress = tqdm(
        total=len(images),
        initial=state.done,
        desc="decoding images",
        unit="image",
        disable=len(images) < _PROGRESS_FROM,
    )
    with progress, ThreadPoolExecutor(workers) as pool, ExitStack() as stack:
        files = [stack.enter_context(open(folder / name, "ab")) for name in (PIXELS, SOURCES, JOURNAL)]
        while state.done < len(images):  # in chunks, so that decoders never run far ahead of the disk
            _decode_chunk(images, size, unreadable, state, pool, files, progress)
    header = {
        "format": FORMAT,
        "shape": [len(images), 3, size, size],
        "pixels_sha256": state.pixels.hexdigest(),
        "sources_sha256": state.sources.hexdigest(),
        "sources": {"root": str(images.root.absolute()), "first": images.files[0], "last": images.files[-1]},
        "replaced": {str(index): other for index, other in sorted(state.replaced.items())},
    }
    write_json(folder / HEADER, header)


def _decode_chunk(
    images: ImageList,
    size: int,
    unreadable: Unreadable,
    state: _State,
    pool: ThreadPoolExecutor,
    files: list[Any],
    progress: Any,
) -> None:
    def load(index: int) -> tuple[bytes, bytes]:
        content = images.source.content(index)
        pixels = centre_square(images.source.decode(index, content), size)
        return pixels.tobytes(), hashlib.sha256(content).digest()

    def read(index: int) -> tuple[tuple[bytes, bytes], int]:
        return unreadable.read(index, images.labels, load)

    indices = range(state.done, min(state.done + CHUNK, len(images)))
    pixels, sources, replaced = [], [], {}
    for index, ((decoded, source), used) in zip(indices, pool.map(read, indices), strict=True):
        pixels.append(decoded)
        sources.append(source)
        if used != index:
            replaced[index] = used
        progress.update()
    chunk = (b"".join(pixels), b"".join(sources), replaced)
    state.add(*chunk)
    unreadable.check(state.replaced, images.files)
    line = {"images": len(indices), "sha256": hashlib.sha256(chunk[0] + chunk[1]).hexdigest(), "replaced": replaced}
    for file, part in zip(files, (*chunk[:2], json.dumps(line).encode() + b"\n"), strict=True):
        file.write(part)
        file.flush()


def _recover(folder: Path, count: int, size: int) -> _State:
    """What a killed build left, cut back to the last chunk that is whole and as the journal says."""
    state, kept = _State(), 0
    image_bytes = 3 * size * size
    paths = [folder / name for name in (PIXELS, SOURCES, JOURNAL)]
    if all(path.exists() for path in paths):
        with open(paths[0], "rb") as pixels, open(paths[1], "rb") as sources, open(paths[2], "rb") as journal:
            for line in journal:
                chunk = _journalled(line)
                if chunk is None or state.done + chunk["images"] > count:
                    break
                parts = pixels.read(chunk["images"] * image_bytes), sources.read(chunk["images"] * 32)
                if hashlib.sha256(parts[0] + parts[1]).hexdigest() != chunk["sha256"]:
                    break
                state.add(*parts, {int(index): other for index, other in chunk["replaced"].items()})
                kept += len(line)
    for path, length in zip(paths, (state.done * image_bytes, state.done * 32, kept), strict=True):
        if path.exists():
            os.truncate(path, length)
    return state


def _journalled(line: bytes) -> dict[str, Any] | None:
    """What a line says of its chunk; None if it was cut off while it was written, or is damaged."""
    try:
        found = json.loads(line)
        sound = type(found["images"]) is int and found["images"] > 0
        sound = sound and all(int(index) >= 0 and type(other) is int for index, other in found["replaced"].items())
        return found if sound and line.endswith(b"\n") and isinstance(found["sha256"], str) else None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
