"""Every image of a split decoded once into one file of pixels, shared by all processes and all later runs.

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
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from clop_det.data.building import build_once, cache_folder, cache_lock
from clop_det.data.decoding import UnreadableImage, grey_bits
from clop_det.data.image_list import ImageList
from clop_det.data.images import StoredImages
from clop_det.data.store_build import FORMAT, HEADER, PIXELS, decode_store
from clop_det.data.unreadable import Replacements, Unreadable
from clop_det.data.views import StoredViews, ViewPlan
from clop_det.errors import UserError
from clop_det.files import read_json, sha256_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageStore:
    """The decoded images of one split.

    Attributes:
        images: (N, 3, S, S) uint8 RGB: indexing reads what is asked for.
        labels: (N,) int64, -1 = unlabelled.
        classes: K class names.
        files: N file names relative to the data set's root.
        sources_sha256: SHA-256 over the content of all source files in order.
        folder: where the store lies.
        replaced: index of each unreadable image -> index of the image that stands in for it.
    """

    images: StoredImages
    labels: Tensor
    classes: tuple[str, ...]
    files: tuple[str, ...]
    sources_sha256: str
    folder: Path
    replaced: dict[int, int]

    def __len__(self) -> int:
        return len(self.files)

    def views(self, plan: ViewPlan, device: torch.device) -> StoredViews:
        """The views of the batches of `plan`."""
        return StoredViews(self.images.near(device), plan, device)


def open_store(
    images: ImageList,
    size: int,
    cache_dir: str | os.PathLike[str] | None = None,
    unreadable: Unreadable | None = None,
) -> ImageStore:
    """Open the decoded images, decoding them first if that has not been done.

    Each image is turned upright by its EXIF tag, converted to RGB, resized (antialiased bilinear) so that its shorter
    side is `size`, and cut to the central square: the pixels of torchvision's `Resize(size)` and `CenterCrop(size)`.
    Safe to call from several processes at once: one decodes, the others wait. A killed process's work is gone on with.
    A store whose content does not match its checksum is reported and built again.

    Args:
        images: the files.
        size: side S of the stored images in pixels.
        cache_dir: folder that keeps stores; by default `stores` in the cache folder (see `cache_folder`).
        unreadable: what to do with images that cannot be read; by default fail.

    Raises:
        UserError: an unreadable image (named), no image, an unwritable cache, a full disk.
    """
    unreadable = unreadable or Unreadable()
    if len(images) == 0:
        raise UserError(f"no image to decode in {images.root}")
    parent = Path(cache_dir) if cache_dir is not None else cache_folder() / "stores"
    folder = parent / f"{_key(images, size, unreadable)}-{size}px"
    for _ in range(2):
        build_once(folder, lambda partial: decode_store(images, size, unreadable, partial), resumable=True)
        fault = _fault(folder, len(images), size)
        if fault is None:
            return _open(images, size, folder, unreadable)
        _log.warning("decoded images in %s are damaged (%s); decoding them again", folder, fault)
        _discard(folder, len(images), size)
    raise UserError(f"decoded images in {folder} are damaged again after a rebuild ({fault}); check the disk")


def _key(images: ImageList, size: int, unreadable: Unreadable) -> str:
    digest = hashlib.sha256(f"{FORMAT}\n{size}\n".encode())
    if grey_bits() != 16:
        digest.update(f"grey of {grey_bits()} bits\n".encode())
    if unreadable.replaces:  # which image stands in depends on the labels
        digest.update(f"replace {Image.MAX_IMAGE_PIXELS}\n".encode() + images.labels.numpy().tobytes())
    for index, file in enumerate(images.files):
        try:
            stamp = images.source.stamp(index)
        except UnreadableImage:
            if not unreadable.replaces:
                raise
            stamp = "absent"
        digest.update(f"{stamp} {file}\n".encode("utf-8", "surrogateescape"))  # names need not be UTF-8
    return digest.hexdigest()[:16]


def _fault(folder: Path, count: int, size: int) -> str | None:
    """What is wrong with a store, or None. Reads it once (about a second per gigabyte) without keeping it in memory."""
    try:
        header = read_json(folder / HEADER)
        if header["format"] != FORMAT or header["shape"] != [count, 3, size, size]:
            return f"{HEADER} describes another store"
        if (folder / PIXELS).stat().st_size != count * 3 * size * size:
            return f"{PIXELS} has the wrong length"
        if sha256_of(folder / PIXELS) != header["pixels_sha256"]:
            return f"{PIXELS} does not match its checksum"
        if not isinstance(header["sources_sha256"], str) or not all(
            0 <= int(index) < count and 0 <= other < count for index, other in header.get("replaced", {}).items()
        ):
            return f"{HEADER} names images that the store does not hold"
        return None
    except (UserError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        return str(error)


def _discard(folder: Path, count: int, size: int) -> None:
    """Remove a damaged store, unless another process has just replaced it by a good one."""
    with cache_lock(folder):
        if folder.is_dir() and _fault(folder, count, size) is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _open(images: ImageList, size: int, folder: Path, unreadable: Unreadable) -> ImageStore:
    header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
    replaced = {int(index): int(other) for index, other in header.get("replaced", {}).items()}
    Replacements(unreadable, images.files).add(replaced)
    return ImageStore(
        StoredImages(folder / PIXELS, (len(images), 3, size, size)),
        images.labels,
        images.classes,
        images.files,
        header["sources_sha256"],
        folder,
        replaced,
    )
