"""Images and boxes of a data set as arrays; dataset dicts are made from them one by one, when they are asked for.

860,001 annotations as dictionaries take gigabytes; as arrays they take what their numbers take, checks look at all of
them at once, and `annotations.kept` writes and reads them as they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
from detectron2.structures import BoxMode

from clop_det.annotations.images import AS_STORED

Array = np.ndarray[Any, Any]
Record = dict[str, Any]
COCO, VOC, GIVEN = "coco", "voc", "given"
STORED_FLAG = 1
_BLOCK = 1 << 20  # coordinates that are gathered at once


@dataclass
class Images:
    """The images of a data set; N of them.

    Attributes:
        file: (N,) paths.
        number: (N,) ids: whole numbers or texts.
        height, width: (N,) pixels; 0: unknown.
        flags: (N,) `STORED_FLAG`: keys of the dataset dict that `annotations.images` reads.
    """

    file: Array
    number: Array
    height: Array
    width: Array
    flags: Array

    def take(self, rows: Array) -> Images:
        """The images of some rows."""
        return Images(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


@dataclass
class Boxes:
    """The annotations of a data set; A of them, grouped by image.

    Attributes:
        owner: (A,) index of the image.
        category: (A,) class index.
        box: (A, 4) float64 as `mode` says.
        mode: (A,) Detectron2's BoxMode.
        crowd, difficult: (A,) 0 or another number.
        area: (A,) float64; NaN: none is given.
        number: (A,) ids: whole numbers or texts.
        first, polygons: (A,) the polygons of a mask are `first` and those that follow in `Shapes`.
        code, code_size: (A,) place and length of a run-length code in `Shapes`; length 0: none. A place below 0 is
            that of a mask yet to be checked: -1 - place in `Table.pending`.
    """

    owner: Array
    category: Array
    box: Array
    mode: Array
    crowd: Array
    difficult: Array
    area: Array
    number: Array
    first: Array
    polygons: Array
    code: Array
    code_size: Array

    def take(self, rows: Array) -> Boxes:
        """The annotations of some rows, in their order."""
        return Boxes(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    @property
    def masked(self) -> Array:
        """(A,) bool: whether there is a mask."""
        return (self.polygons > 0) | (self.code_size > 0)

    def corners(self) -> Array:
        """(A, 4) x1, y1, x2, y2: rounded as Detectron2's `BoxMode.convert` rounds where it has to convert."""
        found = self.box.astype(np.float64, copy=True)
        rows = self.mode == int(BoxMode.XYWH_ABS)
        short = self.box[rows].astype(np.float32)
        short[:, 2:] += short[:, :2]
        found[rows] = short
        return found


@dataclass
class Shapes:
    """The masks' polygons and run-length codes, which annotations refer to by place.

    Attributes:
        start, length: (Q,) per polygon its place and number of coordinates in `xy`.
        xy: coordinates x, y, x, y, ... in pixels.
        codes: bytes of run-length codes, one after the other.
    """

    start: Array
    length: Array
    xy: Array
    codes: Array


@dataclass
class Table(Sequence[Record]):
    """A data set: a sequence of dataset dicts in Detectron2's standard format, each made anew when it is asked for.

    Attributes:
        images, boxes, shapes: see there.
        form: `COCO`, `VOC` or `GIVEN`: which keys an annotation has.
        given: with `GIVEN`, the dataset dicts of the user's own function as (N,) images and (A,) annotations, whose
            other keys are passed on.
        pending: masks as they are written that are no lists of polygons; the checks turn them into shapes.
    """

    images: Images
    boxes: Boxes
    shapes: Shapes
    form: str = COCO
    given: tuple[Array, Array] | None = None
    pending: Sequence[Any] = ()

    def __len__(self) -> int:
        return len(self.images.file)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        record = self.head(i)
        record["annotations"] = [self._entry(row) for row in range(self.starts[i], self.starts[i + 1])]
        return record

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))

    @cached_property
    def starts(self) -> Array:
        """(N + 1,) where the annotations of each image begin, and where the last end."""
        return np.searchsorted(self.boxes.owner, np.arange(len(self) + 1))

    def head(self, i: int) -> Record:
        """The dataset dict of image `i` without its annotations."""
        images = self.images
        record = dict(self.given[0][i]) if self.given else {}
        record |= {"file_name": str(images.file[i]), "image_id": _plain(images.number[i])}
        record |= {"height": int(images.height[i]), "width": int(images.width[i])}
        return record | ({AS_STORED: True} if images.flags[i] & STORED_FLAG else {})

    def _entry(self, row: int) -> dict[str, Any]:
        boxes = self.boxes
        place = {"category_id": int(boxes.category[row]), "bbox": boxes.box[row].tolist()}
        place["bbox_mode"] = BoxMode(int(boxes.mode[row]))
        if self.form == VOC:
            return {**place, "difficult": int(boxes.difficult[row])}
        if self.given:
            entry = {k: v for k, v in self.given[1][row].items() if k not in ("area", "segmentation")} | place
        else:
            entry = {"id": _plain(boxes.number[row]), "iscrowd": int(boxes.crowd[row]), **place}
        if not np.isnan(boxes.area[row]):
            entry["area"] = float(boxes.area[row])
        mask = self.mask(row)
        return entry if mask is None else {**entry, "segmentation": mask}

    def mask(self, row: int) -> Any:
        """The segmentation of an annotation, as `segmentation.usable_part` gives it."""
        boxes, shapes = self.boxes, self.shapes
        if boxes.code_size[row]:
            code = shapes.codes[boxes.code[row] : boxes.code[row] + boxes.code_size[row]]
            image = boxes.owner[row]
            size = [int(self.images.height[image]), int(self.images.width[image])]
            return {"size": size, "counts": code.tobytes().decode("ascii")}
        polygons = range(boxes.first[row], boxes.first[row] + boxes.polygons[row])
        return [shapes.xy[shapes.start[k] : shapes.start[k] + shapes.length[k]].tolist() for k in polygons] or None

    def take(self, rows: Array) -> Table:
        """The table with some of its annotations: a mask (A,) or sorted rows."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        if len(rows) == len(self.boxes.owner):
            return self
        given = (self.given[0], self.given[1][rows]) if self.given else None
        return Table(self.images, self.boxes.take(rows), self.shapes, self.form, given, self.pending)

    def take_images(self, chosen: Array) -> Table:
        """The table with some of its images, each once, in the order of their rows."""
        place = np.full(len(self), -1, dtype=np.int64)
        place[chosen] = np.arange(len(chosen))
        owner = place[self.boxes.owner]
        rows = np.flatnonzero(owner >= 0)
        rows = rows[np.argsort(owner[rows], kind="stable")]
        boxes = self.boxes.take(rows)
        boxes.owner = owner[rows]
        given = (self.given[0][chosen], self.given[1][rows]) if self.given else None
        return Table(self.images.take(chosen), boxes, self.shapes, self.form, given, self.pending)

    def learnable(self) -> Array:
        """(N,) bool: whether an image holds a box of some extent that is not a crowd: something to learn from."""
        box = self.boxes.corners().astype(np.float32)
        rows = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1]) & (self.boxes.crowd == 0)
        found = np.zeros(len(self), dtype=bool)
        found[self.boxes.owner[rows]] = True
        return found

    def digest(self, classes: Sequence[str]) -> str:
        """SHA-256 over all that training and evaluation see of the data, wherever the images lie."""
        images, boxes, shapes = self.images, self.boxes, self.shapes
        digest = hashlib.sha256(f"{list(classes)}\n".encode())
        counts = np.diff(self.starts)
        columns = (column.tolist() for column in (images.file, images.number, images.height, images.width, counts))
        for path, *facts in zip(*columns, strict=True):
            digest.update(f"{path.rsplit('/', 1)[-1]} {facts}\n".encode("utf-8", "surrogateescape"))
        for column in (boxes.category, boxes.mode, boxes.crowd, boxes.difficult, boxes.polygons, boxes.code_size):
            digest.update(raw(column.astype(np.int64)))
        for column in (boxes.box, boxes.area):
            digest.update(raw(column))
        polygons = spans(boxes.first, boxes.polygons)
        digest.update(raw(shapes.length[polygons]))
        for block in np.array_split(polygons, 1 + int(shapes.length[polygons].sum()) // _BLOCK):
            digest.update(raw(shapes.xy[spans(shapes.start[block], shapes.length[block])]))
        digest.update(raw(shapes.codes[spans(boxes.code, boxes.code_size)]))
        return digest.hexdigest()


def raw(column: Array) -> memoryview:
    """The bytes of an array, in the order of its rows."""
    flat: Any = np.ascontiguousarray(column).reshape(-1)
    return memoryview(flat.view(np.uint8))


def spans(start: Array, length: Array) -> Array:
    """start[0] .. start[0] + length[0], then start[1] .. and so on, as one array of indices."""
    before = np.cumsum(length) - length
    return np.asarray(np.arange(int(length.sum()), dtype=np.int64) + np.repeat(start - before, length))


def column_of(values: Sequence[Any]) -> Array:
    """Whole numbers as int64, anything else as objects."""
    if all(value.__class__ is int and abs(value) < 1 << 62 for value in values):
        return np.array(values, dtype=np.int64)
    return objects(values)


def objects(values: Sequence[Any]) -> Array:
    """(N,) any objects, sequences and mappings among them."""
    found = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        found[i] = value
    return found


def no_shapes() -> Shapes:
    """The shapes of annotations without masks."""
    nothing = np.zeros(0, dtype=np.int64)
    return Shapes(nothing, nothing, np.zeros(0), np.zeros(0, dtype=np.uint8))


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, np.integer) else value
