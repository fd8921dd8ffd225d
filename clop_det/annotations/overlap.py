"""Whether a test image is among the images that a model learns from: by content, and by what the picture shows.

Two files are one picture if their bytes are equal, or if they look alike at 32 x 32 grey pixels: the coarse brightness
(16 x 16, normalised correlation) and then the detail (each pixel less the mean of its 5 x 5 neighbours) must agree.
That survives resizing, also to another aspect ratio, and recompression. Measured on BCCD, Aquarium, COCO and Grocery:
copies of half the side at JPEG quality 40 agree in detail to 0.96 and more where the picture is larger than 128
pixels, and different pictures to 0.93 at most (two shots of one slide). Cut, mirrored or turned copies, and small
pictures that were halved, are not found.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from numpy.typing import NDArray
from PIL import Image

from clop_det.annotations.copies import check_copies
from clop_det.annotations.datasets import load_dataset
from clop_det.data.building import cache_folder, cache_lock
from clop_det.data.decoding import BROKEN, UnreadableImage, grey_bits, open_header, oversize, to_rgb
from clop_det.data.image_sources import FileSource, ImageSource
from clop_det.data.opening import list_images
from clop_det.data.orientation import upright
from clop_det.engine.workers import cores
from clop_det.errors import UserError
from clop_det.files import atomic_write

_FORMAT = "clop_det image prints 1"
_SIDE, _COARSE = 32, 16  # pixels of a print, and of its coarse form
_ALIKE, _SAME = 0.98, 0.95  # correlations from which two prints are compared in detail, and are one picture
_FLAT = 1.0  # grey levels of deviation under which a picture shows nothing that could be compared
_ROWS = 4096  # training images compared at once
_log = logging.getLogger(__name__)
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Prints:
    """What is kept of N images.

    Attributes:
        names: of the images, for a person.
        digests: (N, 32) uint8, SHA-256 of the content.
        pictures: (N, 32, 32) uint8 grey; one flat colour for an image that cannot be read.
    """

    names: Sequence[str]
    digests: NDArray[np.uint8]
    pictures: NDArray[np.uint8]


def check_overlap(cfg: CfgNode) -> dict[str, Any]:
    """Compare every test set with the training sets and with the images that pretraining and its probes learn from.

    A test set that is itself in DATASETS.TRAIN, or named in DATASETS.OVERLAP_ALLOWED, is left out. In the data sets
    that are compared, images of one content under several names are looked for as well.

    Returns:
        {"test_sets": compared, "left_out": [...], "images": {what they were compared with: how many}, "copies": what
        `check_copies` says, one line a data set}.

    Raises:
        UserError: a test image is among them; both paths are named. Or see `check_copies`.
    """
    unknown = sorted(set(cfg.DATASETS.OVERLAP_ALLOWED) - set(cfg.DATASETS.TEST))
    if unknown:
        raise UserError(f"DATASETS.OVERLAP_ALLOWED names {unknown[0]}, which is not in DATASETS.TEST.")
    left_out = {*cfg.DATASETS.OVERLAP_ALLOWED, *cfg.DATASETS.TRAIN} & set(cfg.DATASETS.TEST)
    compared = [name for name in dict.fromkeys(cfg.DATASETS.TEST) if name not in left_out]
    images: dict[str, int] = {}
    copies: list[str] = []
    if compared:
        learnt = {name: _of_data_set(name) for name in dict.fromkeys(cfg.DATASETS.TRAIN)}
        tested = {name: _of_data_set(name) for name in compared}
        for name, prints in {**learnt, **tested}.items():
            copies.append(check_copies(name, prints.names, prints.digests, cfg.DATASETS.MAX_FAULT_SHARE))
        if cfg.CLASSIFICATION.ROOT:
            learnt[f"CLASSIFICATION.ROOT {cfg.CLASSIFICATION.ROOT}"] = _of_classification(cfg)
        images = {name: len(prints.names) for name, prints in learnt.items()}
        for test_set, prints in tested.items():
            for name, others in learnt.items():
                _refuse(common_images(others, prints), others, prints, name, test_set)
    found = {"test_sets": compared, "left_out": sorted(left_out), "images": images}
    return {**found, "copies": [said for said in copies if said]}


def describe(found: dict[str, Any]) -> str:
    """One line for the log and the doctor."""
    parts = []
    if found["test_sets"]:
        against = ", ".join(f"{count} of {name}" for name, count in found["images"].items())
        parts.append(f"no image of {', '.join(found['test_sets'])} is among those learnt from ({against})")
    if found["left_out"]:
        parts.append(f"{', '.join(found['left_out'])} may share images with the training sets and was not compared")
    return "; ".join(parts)


def _refuse(pairs: list[tuple[int, int]], learnt: Prints, tested: Prints, name: str, test_set: str) -> None:
    if not pairs:
        return
    first, second = pairs[0]
    count = len({test for _, test in pairs})
    raise UserError(
        f"{count} of {len(tested.names)} images of the test set {test_set} are among the images of {name}, such as"
        f" {tested.names[second]}, which is the same picture as {learnt.names[first]}. Take them out of one of the two,"
        f" or allow it: DATASETS.OVERLAP_ALLOWED ('{test_set}',)."
    )


def _of_data_set(name: str) -> Prints:
    files = load_dataset(name).images.file.tolist()
    return prints_of(FileSource(Path(), files), files)


def _of_classification(cfg: CfgNode) -> Prints:
    listed = list_images(cfg.CLASSIFICATION, cfg.CLASSIFICATION.TRAIN_SPLIT)
    return prints_of(listed.source, [str(listed.root / name) for name in listed.files])


def prints_of(source: ImageSource, names: Sequence[str]) -> Prints:
    """The prints of all images of `source`, kept in `image_prints` in the cache folder until a file changes."""
    if not len(names):
        return Prints(names, np.zeros((0, 32), np.uint8), np.zeros((0, _SIDE, _SIDE), np.uint8))
    key = hashlib.sha256(f"{_FORMAT} {Image.MAX_IMAGE_PIXELS} {grey_bits()}\n".encode())
    for index, name in enumerate(names):
        try:
            stamp = source.stamp(index)
        except UnreadableImage:
            stamp = "missing"
        key.update(f"{stamp} {Path(name).absolute()}\n".encode("utf-8", "surrogateescape"))
    path = cache_folder() / "image_prints" / f"{key.hexdigest()[:24]}.npz"
    with cache_lock(path):
        kept = _kept(path, len(names))
        if kept is None:
            with ThreadPoolExecutor(min(8, cores())) as pool:
                made = list(pool.map(lambda index: _print_of(source, index), range(len(names))))
            kept = np.stack([digest for digest, _ in made]), np.stack([picture for _, picture in made])
            with atomic_write(path) as file:
                np.savez(file, digests=kept[0], pictures=kept[1])
    return Prints(names, *kept)


def _kept(path: Path, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    try:
        with np.load(path, allow_pickle=False) as content:
            digests, pictures = content["digests"], content["pictures"]
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged archive raises whatever its reader trips over
        _log.warning("%s is damaged (%s); the images are looked at again", path, error)
        return None
    fits = digests.shape == (count, 32) and pictures.shape == (count, _SIDE, _SIDE)
    return (digests, pictures) if fits and digests.dtype == pictures.dtype == np.uint8 else None


def _print_of(source: ImageSource, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    try:
        content = source.content(index)
    except UnreadableImage:
        content = b""
    digest = np.frombuffer(hashlib.sha256(content).digest(), dtype=np.uint8)
    try:
        return digest, _picture(_small(content))
    except BROKEN:
        pass
    try:  # no image file: a part of an archive
        return digest, _picture(source.decode(index, content))
    except (UserError, ValueError):
        return digest, np.zeros((_SIDE, _SIDE), dtype=np.uint8)


def _small(content: bytes) -> Image.Image:
    with open_header(io.BytesIO(content)) as image:
        if said := oversize(*image.size):
            raise ValueError(said)
        image.draft("L", (2 * _SIDE, 2 * _SIDE))  # a JPEG is decoded at a fraction of its size
        return to_rgb(upright(image))


def _picture(image: Image.Image) -> NDArray[np.uint8]:
    way = Image.Resampling.BOX if min(image.size) >= _SIDE else Image.Resampling.BILINEAR
    return np.asarray(image.convert("L").resize((_SIDE, _SIDE), way))


def common_images(learnt: Prints, tested: Prints) -> list[tuple[int, int]]:
    """Pairs (index in `learnt`, index in `tested`) of the same picture, sorted by the latter."""
    places = {bytes(digest): index for index, digest in enumerate(learnt.digests)}
    found = {(places[bytes(digest)], index) for index, digest in enumerate(tested.digests) if bytes(digest) in places}
    coarse = _coarse(tested.pictures)
    for start in range(0, len(learnt.names), _ROWS):
        near = np.argwhere(_coarse(learnt.pictures[start : start + _ROWS]) @ coarse.T > _ALIKE)
        near[:, 0] += start
        for part in np.array_split(near, len(near) // _ROWS + 1):
            one, other = _detail(learnt.pictures[part[:, 0]]), _detail(tested.pictures[part[:, 1]])
            same = part[(one * other).sum(axis=1) > _SAME]
            found |= {(int(first), int(second)) for first, second in same}
    return sorted(found, key=lambda pair: (pair[1], pair[0]))


def _coarse(pictures: NDArray[np.uint8]) -> Floats:
    """(N, 256): the pictures at 16 x 16, normalised; zeros for one flat colour."""
    step = _SIDE // _COARSE
    means = pictures.reshape(-1, _COARSE, step, _COARSE, step).mean(axis=(2, 4), dtype=np.float32)
    return _normalised(means.reshape(-1, _COARSE * _COARSE))


def _detail(pictures: NDArray[np.uint8]) -> Floats:
    """(N, 1024): each pixel less the mean of its 5 x 5 neighbours, normalised; zeros for one flat colour."""
    values = pictures.astype(np.float32)
    padded = np.pad(values, ((0, 0), (2, 2), (2, 2)), mode="edge")
    around = sum(padded[:, y : y + _SIDE, x : x + _SIDE] for y in range(5) for x in range(5)) / np.float32(25)
    return _normalised((values - around).reshape(-1, _SIDE * _SIDE))


def _normalised(rows: Floats) -> Floats:
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    flat = length < _FLAT * rows.shape[1] ** 0.5
    return np.where(flat, 0, rows / np.maximum(length, 1e-6)).astype(np.float32)
