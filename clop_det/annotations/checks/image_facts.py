"""What an image file's header says, without decoding it; kept in the cache folder until a file changes.

A file is told apart by its path, size and modification time, one `stat` a file, as for the image store. Headers and
file ends are read once; a file that has no proper end is decoded once, to be sure. A fault in the middle of a file that
does not shorten it shows only when the image is decoded, in training or evaluation, which then names the file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import os
import struct
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from clop_det.data.building import cache_folder
from clop_det.data.decoding import BROKEN, open_header, oversize
from clop_det.data.jpeg_header import ENOUGH, ordinary_frame
from clop_det.data.orientation import orientation
from clop_det.engine.workers import cores
from clop_det.errors import UserError
from clop_det.files import StrPath, open_ordinary, read_json, write_text

_FORMAT = "clop_det image facts 3"
MISSING, UNREADABLE, TRUNCATED = "missing", "unreadable", "truncated"
_TAIL = 4096  # bytes in which its end is looked for
_TASK = 256  # files that a thread reads before it asks for more
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageFacts:
    """What is known of one image file.

    Attributes:
        width, height: pixels as stored, before EXIF turns the image.
        format: Pillow's name: "JPEG", "PNG", ...; "" if unknown.
        mode: Pillow's mode: "RGB", "P", "CMYK", ...
        deep: whether a channel has more than 8 bits.
        orientation: EXIF's, 1 to 8; 1 = upright.
        fault: "", "missing", "unreadable" or "truncated".
    """

    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    deep: bool = False
    orientation: int = 1
    fault: str = ""

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) once EXIF has turned the image."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def read_facts(path: StrPath) -> ImageFacts:
    """Read the header and the end of one file; never raises for what is in it."""
    try:
        with open_ordinary(path, buffering=0) as raw:
            found = plain_jpeg(raw.fileno())
            return found or _facts(io.BufferedReader(raw))
    except FileNotFoundError:
        return ImageFacts(fault=MISSING)
    except BROKEN:
        return ImageFacts(fault=UNREADABLE)


def plain_jpeg(file: int) -> ImageFacts | None:
    """What `read_facts` says of a whole JPEG file without EXIF and colour profile, in a tenth of Pillow's time.

    Args:
        file: descriptor; its place in the file stays as it is.

    Returns:
        None: it is something else.
    """
    frame = ordinary_frame(os.pread(file, ENOUGH, 0))
    if frame is None or oversize(frame.width, frame.height):
        return None
    if not _ends(os.pread(file, _TAIL, max(0, os.fstat(file).st_size - _TAIL))):
        return None
    return ImageFacts(frame.width, frame.height, "JPEG", "L" if frame.channels == 1 else "RGB")


def _facts(file: BinaryIO) -> ImageFacts:
    image = open_header(file)
    width, height = image.size
    raw_mode = str(image.tile[0][3]) if image.tile else ""
    deep = image.mode[0] in "IF" or ";16" in raw_mode
    facts = ImageFacts(width, height, image.format or "", image.mode, deep)
    if oversize(width, height):  # before anything decodes it
        return facts
    whole, tagged = _ENDS.get(facts.format, _decoded)(file)
    if not whole:
        try:
            image.load()
        except BROKEN:
            return dataclasses.replace(facts, fault=TRUNCATED)
    return dataclasses.replace(facts, orientation=orientation(image)) if tagged else facts


def _jpeg_end(file: BinaryIO) -> tuple[bool, bool]:
    """(ends with its end marker, may hold EXIF); padding of zeros or line ends after the marker is common."""
    place = file.tell()
    file.seek(0, os.SEEK_END)
    file.seek(max(0, file.tell() - _TAIL))
    whole = _ends(file.read())
    file.seek(place)
    return whole, True


def _ends(tail: bytes) -> bool:
    return tail.rstrip(b"\x00\r\n ").endswith(b"\xff\xd9")


def _png_end(file: BinaryIO) -> tuple[bool, bool]:
    """(reaches its last chunk, holds EXIF), by walking from chunk to chunk without reading them."""
    place = file.tell()
    size = file.seek(0, os.SEEK_END)
    position, tagged, whole = 8, False, False
    while position + 12 <= size and not whole:
        file.seek(position)
        length, kind = struct.unpack(">I4s", file.read(8))
        position += 12 + length
        tagged |= kind in (b"eXIf", b"zTXt", b"tEXt", b"iTXt")
        whole = kind == b"IEND" and position <= size
    file.seek(place)
    return whole, tagged


def _decoded(file: BinaryIO) -> tuple[bool, bool]:
    """Other formats have no end that tells; they are decoded."""
    return False, True


_ENDS = {"JPEG": _jpeg_end, "MPO": _jpeg_end, "PNG": _png_end}


def facts_of(paths: Sequence[StrPath]) -> list[ImageFacts]:
    """`read_facts` of many files, kept in `image_facts` in the cache folder for the next run."""
    if not paths:
        return []
    path = cache_folder() / "image_facts" / f"{marks(paths)[:24]}-{Image.MAX_IMAGE_PIXELS}.json"
    if path.is_file():
        try:
            content = read_json(path)
            if content["format"] == _FORMAT and len(content["facts"]) == len(paths):
                return [ImageFacts(*entry) for entry in content["facts"]]
        except (UserError, TypeError, KeyError):
            _log.warning("%s is damaged; the images' headers are read again", path)
    # Around the threads, not in them: filters belong to the process, and threads would restore each other's.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(8, cores())) as pool:
        warnings.simplefilter("ignore")
        # Many files a task: a task costs about as much as the header of a file.
        parts = pool.map(_read_all, (paths[i : i + _TASK] for i in range(0, len(paths), _TASK)))
        facts = [entry for part in parts for entry in part]
    try:
        write_text(path, json.dumps({"format": _FORMAT, "facts": [[*vars(entry).values()] for entry in facts]}))
    except UserError as error:  # a convenience, not a result
        _log.warning("the images' headers will be read again next time: %s", error)
    return facts


def _read_all(paths: Sequence[StrPath]) -> list[ImageFacts]:
    return [read_facts(path) for path in paths]


def marks(paths: Sequence[StrPath]) -> str:
    """SHA-256 over the paths, sizes and modification times of files: what tells whether one of them has changed."""
    here, lines = os.getcwd(), []
    for path in map(str, paths):
        try:
            status = os.stat(path)
            mark = f"{status.st_size} {status.st_mtime_ns}"
        except (OSError, ValueError):
            mark = MISSING
        lines.append(f"{mark} {path}\n" if path[:1] == "/" else f"{mark} {here}/{path}\n")
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()
