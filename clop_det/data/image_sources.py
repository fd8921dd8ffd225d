"""Where the pixels of a list of images come from: files of their own, arrays in an archive, or several of these."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clop_det.data.crops import Choice, ReducedImage, reduced, whole
from clop_det.data.decoding import Pixels, UnreadableImage, decode, extent_of
from clop_det.files import read_ordinary


class ImageSource(ABC):
    """Images by number. Picklable, and safe to use from several threads."""

    @abstractmethod
    def stamp(self, index: int) -> str:
        """Changes when the content of the image may have changed, without reading it.

        Raises:
            UnreadableImage: the file is not there.
        """

    @abstractmethod
    def content(self, index: int) -> bytes:
        """The image as it lies on disk.

        Raises:
            UnreadableImage: it cannot be read.
        """

    @abstractmethod
    def decode(self, index: int, content: bytes) -> Image.Image:
        """The upright RGB image in `content`.

        Raises:
            UnreadableImage: it is not one.
        """

    def extent(self, index: int) -> tuple[int, int]:
        """Width and height in pixels of image `index`, upright, by its header where it has one.

        Raises:
            UnreadableImage: the header cannot be read. A damaged image may have one that says anything.
        """
        width, height = self.image(index).size
        return width, height

    def sizes(self, count: int, digest: Callable[[Path], str]) -> list[Any]:
        """What tells the content of `count` images from another's: of files their sizes in bytes (-1: absent).

        A source of another kind is read image by image, unless it knows better.

        Args:
            digest: file -> digest, for files that hold many images.
        """
        return [hashlib.sha256(self.content(index)).hexdigest() for index in range(count)]

    def image(self, index: int) -> Image.Image:
        """Image `index`, upright RGB; raises as `content` and `decode`."""
        return self.decode(index, self.content(index))

    def reduced(self, index: int, choose: Choice) -> ReducedImage:
        """Image `index`, at the fraction 1 / `choose`(width, height) where that takes less work; raises as `image`."""
        return whole(self.image(index))


@dataclass(frozen=True)
class FileSource(ImageSource):
    """One file an image: `root / files[index]`."""

    root: Path
    files: Sequence[str]

    def stamp(self, index: int) -> str:
        path = self._path(index)
        try:
            status = os.stat(path)
        except OSError as error:
            raise UnreadableImage(f"cannot read image {path}: {error.strerror}") from error
        return f"{status.st_size} {status.st_mtime_ns}"

    def content(self, index: int) -> bytes:
        path = self._path(index)
        try:
            return read_ordinary(path)
        except OSError as error:
            raise UnreadableImage(f"cannot read image {path}: {error.strerror or error}") from error

    def decode(self, index: int, content: bytes) -> Image.Image:
        return decode(content, self._path(index))

    def reduced(self, index: int, choose: Choice) -> ReducedImage:
        return reduced(self.content(index), self._path(index), choose)

    def extent(self, index: int) -> tuple[int, int]:
        return extent_of(self._path(index))

    def sizes(self, count: int, digest: Callable[[Path], str]) -> list[Any]:
        return [size_of(self.root / name) for name in self.files]

    def _path(self, index: int) -> str:
        return os.path.join(self.root, self.files[index])  # pathlib takes as long as opening the file


@dataclass(frozen=True)
class ArrayFile:
    """A file that holds many images as one array.

    Attributes:
        path: the file.
        count: number n of images in it.
        load: path -> (n, 3, H, W) uint8 RGB; a module's function, so that it can be pickled.
    """

    path: Path
    count: int
    load: Callable[[Path], Pixels]


class ArraySource(ImageSource):
    """Images in array files, one after the other. A file is loaded when it is first asked for, and kept.

    Random access meets every file of an archive, so leaving some out would load whole files for single images. CIFAR's
    python batches take 180 MB in each process that reads them; binary archives are memory-mapped.
    """

    def __init__(self, files: Sequence[ArrayFile]) -> None:
        self._files = tuple(files)
        self._starts = [0, *itertools.accumulate(file.count for file in files)]
        self._loaded: dict[int, Pixels] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> tuple[ArrayFile, ...]:
        return self._files

    def __setstate__(self, files: tuple[ArrayFile, ...]) -> None:
        ArraySource.__init__(self, files)

    def stamp(self, index: int) -> str:
        status = self._files[self._place(index)[0]].path.stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def content(self, index: int) -> bytes:
        return self._pixels(index).tobytes()

    def decode(self, index: int, content: bytes) -> Image.Image:
        pixels = np.frombuffer(content, dtype=np.uint8).reshape(self._pixels(index).shape)
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))

    def sizes(self, count: int, digest: Callable[[Path], str]) -> list[Any]:
        return [[file.path.name, size_of(file.path), digest(file.path)] for file in self._files]

    def _place(self, index: int) -> tuple[int, int]:
        part = bisect.bisect_right(self._starts, index) - 1
        return part, index - self._starts[part]

    def _pixels(self, index: int) -> Pixels:
        part, place = self._place(index)
        with self._lock:
            if part not in self._loaded:
                self._loaded[part] = self._files[part].load(self._files[part].path)
            pixels: Pixels = self._loaded[part][place]
        return pixels


class JoinedSource(ImageSource):
    """The images of several sources, one after the other; `counts` are their numbers."""

    def __init__(self, sources: Sequence[ImageSource], counts: Sequence[int]) -> None:
        self._sources = tuple(sources)
        self._starts = [0, *itertools.accumulate(counts)]

    def stamp(self, index: int) -> str:
        source, place = self._place(index)
        return source.stamp(place)

    def content(self, index: int) -> bytes:
        source, place = self._place(index)
        return source.content(place)

    def decode(self, index: int, content: bytes) -> Image.Image:
        source, place = self._place(index)
        return source.decode(place, content)

    def reduced(self, index: int, choose: Choice) -> ReducedImage:
        source, place = self._place(index)
        return source.reduced(place, choose)

    def extent(self, index: int) -> tuple[int, int]:
        source, place = self._place(index)
        return source.extent(place)

    def sizes(self, count: int, digest: Callable[[Path], str]) -> list[Any]:
        counts = (end - start for start, end in itertools.pairwise(self._starts))
        return [source.sizes(own, digest) for source, own in zip(self._sources, counts, strict=True)]

    def _place(self, index: int) -> tuple[ImageSource, int]:
        part = bisect.bisect_right(self._starts, index) - 1
        return self._sources[part], index - self._starts[part]


def size_of(path: Path) -> int:
    """Size of a file in bytes; -1 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
