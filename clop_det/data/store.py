"""Every image of a split decoded once into one memory-mapped array, shared by all processes and all later runs.

A store is keyed by its sources and its size. The sources are told apart by relative path, file size and modification
time, one `stat` a file: what make and git rely on, and quick enough to do at every start, where hashing the content
would read the whole data set again. The content's SHA-256 is taken once, while the files are read anyway, and kept with
the store for provenance. A data set copied with its times shares the store; one whose times changed is decoded anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from clop_det.data.building import build_once, cache_folder, exclusive_lock
from clop_det.data.layouts import ImageList
from clop_det.errors import UserError
from clop_det.files import read_json, sha256_of, write_json

_FORMAT = "clop_det image store 1"
_PIXELS, _HEADER = "images.u8", "store.json"
_CHUNK = 512  # images decoded between two writes
_PROGRESS_FROM = 5000  # images from which a progress bar is shown

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageStore:
    """The decoded images of one split.

    Attributes:
        images: (N, 3, S, S) uint8 RGB, memory-mapped: indexing reads what is asked for. Writing to it changes this
            process's copy alone, never the file.
        labels: (N,) int64, -1 = unlabelled.
        classes: K class names.
        files: N file names relative to the data set's root.
        sources_sha256: SHA-256 over the content of all source files in order.
        folder: where the store lies.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    files: tuple[str, ...]
    sources_sha256: str
    folder: Path

    def __len__(self) -> int:
        return len(self.files)


def open_store(images: ImageList, size: int, cache_dir: str | os.PathLike[str] | None = None) -> ImageStore:
    """Open the decoded images, decoding them first if that has not been done.

    Each image is turned upright by its EXIF tag, converted to RGB, resized (antialiased bilinear) so that its shorter
    side is `size`, and cut to the central square: the pixels of torchvision's `Resize(size)` and `CenterCrop(size)`.
    Safe to call from several processes at once: one decodes, the others wait. A store whose content does not match its
    checksum is reported and built again.

    Args:
        images: the files.
        size: side S of the stored images in pixels.
        cache_dir: folder that keeps stores; by default `stores` in the cache folder (see `cache_folder`).

    Raises:
        UserError: an unreadable image (named), no image, a size below 1, an unwritable cache, a full disk.
    """
    if size < 1:
        raise UserError(f"image size is {size}; it must be at least 1 pixel (CLASSIFICATION.IMAGE_SIZE)")
    if len(images) == 0:
        raise UserError(f"no image to decode in {images.root}")
    parent = Path(cache_dir) if cache_dir is not None else cache_folder() / "stores"
    folder = parent / f"{_key(images, size)}-{size}px"
    for _ in range(2):
        build_once(folder, lambda temporary: _decode(images, size, temporary))
        fault = _fault(folder, len(images), size)
        if fault is None:
            return _open(images, size, folder)
        _log.warning("decoded images in %s are damaged (%s); decoding them again", folder, fault)
        _discard(folder, len(images), size)
    raise UserError(f"decoded images in {folder} are damaged again after a rebuild ({fault}); check the disk")


def decode_image(path: str | os.PathLike[str], size: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Decode one image to (3, size, size) uint8 RGB, as `open_store` says.

    Raises:
        UserError: the file cannot be read as an image; the message names it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                image = to_rgb(ImageOps.exif_transpose(opened))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"cannot read image {path}: {error}. Replace or remove the file.") from error
    width, height = image.size
    short = min(width, height)
    if short != size:
        width, height = (size if side == short else int(size * side / short) for side in (width, height))
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    pixels = np.asarray(image)[top : top + size, left : left + size]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB: palettes are looked up, transparency is left out, deep grey is scaled."""
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _key(images: ImageList, size: int) -> str:
    digest = hashlib.sha256(f"{_FORMAT}\n{size}\n".encode())
    for file in images.files:
        try:
            status = (images.root / file).stat()
        except OSError as error:
            raise UserError(f"cannot read image {images.root / file}: {error.strerror}") from error
        digest.update(f"{status.st_size} {status.st_mtime_ns} {file}\n".encode())
    return digest.hexdigest()[:16]


def _decode(images: ImageList, size: int, folder: Path) -> None:
    """Write the pixels and the header of a store into an empty folder."""
    sources, pixels = hashlib.sha256(), hashlib.sha256()
    workers = max(1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
    progress = tqdm(total=len(images), desc="decoding images", unit="image", disable=len(images) < _PROGRESS_FROM)

    def load(file: str) -> tuple[bytes, bytes]:
        path = images.root / file
        return hashlib.sha256(path.read_bytes()).digest(), decode_image(path, size).tobytes()

    with progress, ThreadPoolExecutor(workers) as pool, open(folder / _PIXELS, "wb") as output:
        for start in range(0, len(images), _CHUNK):  # in chunks, so that decoders never run far ahead of the disk
            for source, decoded in pool.map(load, images.files[start : start + _CHUNK]):
                sources.update(source)
                pixels.update(decoded)
                output.write(decoded)
                progress.update()
    header = {
        "format": _FORMAT,
        "shape": [len(images), 3, size, size],
        "pixels_sha256": pixels.hexdigest(),
        "sources_sha256": sources.hexdigest(),
        "sources": {"root": str(images.root.absolute()), "first": images.files[0], "last": images.files[-1]},
    }
    write_json(folder / _HEADER, header)


def _fault(folder: Path, count: int, size: int) -> str | None:
    """What is wrong with a store, or None. Reads it once (about a second per gigabyte) without keeping it in memory."""
    try:
        header = read_json(folder / _HEADER)
        if header["format"] != _FORMAT or header["shape"] != [count, 3, size, size]:
            return f"{_HEADER} describes another store"
        if (folder / _PIXELS).stat().st_size != count * 3 * size * size:
            return f"{_PIXELS} has the wrong length"
        if sha256_of(folder / _PIXELS) != header["pixels_sha256"]:
            return f"{_PIXELS} does not match its checksum"
        return None
    except (UserError, OSError, KeyError, TypeError) as error:
        return str(error)


def _discard(folder: Path, count: int, size: int) -> None:
    """Remove a damaged store, unless another process has just replaced it by a good one."""
    with exclusive_lock(folder.parent / f".{folder.name}.lock"):
        if folder.is_dir() and _fault(folder, count, size) is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _open(images: ImageList, size: int, folder: Path) -> ImageStore:
    header = json.loads((folder / _HEADER).read_text(encoding="utf-8"))
    # Copy-on-write: a tensor needs writable memory, and nothing may write to the file.
    mapped = np.memmap(folder / _PIXELS, dtype=np.uint8, mode="c", shape=(len(images), 3, size, size))
    return ImageStore(
        torch.from_numpy(mapped), images.labels, images.classes, images.files, header["sources_sha256"], folder
    )
