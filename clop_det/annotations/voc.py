"""Pascal VOC folders: one XML file an image, lists of images; and the other folder shapes that such files come in."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from detectron2.structures import BoxMode

from clop_det.annotations.checked import UNKNOWN
from clop_det.annotations.checks import ANNOTATION, IMAGE, Checks, Fault
from clop_det.annotations.names import files_below, find_upload, leads_out, spellings, uploads
from clop_det.annotations.table import VOC, Boxes, Images, Table, column_of, no_shapes
from clop_det.annotations.voc_xml import Annotation, Described, read_annotation
from clop_det.data.decoding import IMAGE_SUFFIXES
from clop_det.errors import UserError

_LISTS = "ImageSets/Main"
# Folders of annotations and of images, as Pascal VOC and others name them.
_PAIRS = (
    ("Annotations", "JPEGImages"),
    ("Annotations", "Images"),
    ("Annotations", "images"),
    ("annotations/xmls", "images"),
    ("annotations", "images"),
    ("annots", "images"),
)
_FLAGS = ("-1", "0", "1")  # behind a name, in VOC's lists of one class


@dataclass(frozen=True)
class VocSource:
    """One split of a Pascal VOC folder.

    Attributes:
        folder: holds the two folders and the lists.
        list_file: one image a line, by id or file name; None: every annotation file.
        annotation_dir, image_dir: in `folder`; empty: `folder` itself.
        class_dir: where all splits' annotation files lie, in `folder`.
    """

    folder: Path
    list_file: Path | None
    annotation_dir: str = "Annotations"
    image_dir: str = "JPEGImages"
    class_dir: str = "Annotations"


def voc_source(
    root: Path, year: int, split: str, list_file: str = "", annotation_dir: str = "", image_dir: str = ""
) -> VocSource:
    """The source that DATASETS.REGISTER describes: `root` itself, or `root/VOC<year>` as in VOCdevkit.

    Args:
        split: the list ImageSets/Main/<split>.txt, or a folder; empty: every annotation file.
        list_file: another list, relative to `root`, instead of `split`.
        annotation_dir, image_dir: relative to `root`; empty: looked for.

    Raises:
        UserError: no VOC folder, or no such list.
    """
    source = _folders(root, year, split, annotation_dir, image_dir)
    if source.annotation_dir != source.class_dir or not (split or list_file):
        return source if not list_file else VocSource(**{**vars(source), "list_file": _list(root / list_file, source)})
    path = root / list_file if list_file else source.folder / _LISTS / f"{split}.txt"
    return VocSource(**{**vars(source), "list_file": _list(path, source)})


def _list(path: Path, source: VocSource) -> Path:
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in (source.folder / _LISTS).glob("*.txt"))) or "none"
        raise UserError(f"{path} does not exist; splits there: {known}.")
    return path


def _folders(root: Path, year: int, split: str, annotation_dir: str, image_dir: str) -> VocSource:
    if annotation_dir or image_dir:
        for key, part in (("ANNOTATION_DIR", annotation_dir), ("IMAGE_DIR", image_dir)):
            if part and not (root / part).is_dir():
                raise UserError(f"DATASETS.REGISTER: {key} {part!r} is no folder in {root}.")
        annotations = annotation_dir or "Annotations"
        return VocSource(root, None, annotations, image_dir or "JPEGImages", annotations)
    for folder in (root, root / f"VOC{year}"):
        for annotations, images in _PAIRS:
            if (folder / annotations).is_dir() and (folder / images).is_dir():
                part = f"{annotations}/{split}"
                if split and not (folder / _LISTS).is_dir() and (folder / part).is_dir():  # a folder for each split
                    below = f"{images}/{split}" if (folder / images / split).is_dir() else images
                    return VocSource(folder, None, part, below, annotations)
                return VocSource(folder, None, annotations, images, annotations)
    if split and _has_xml(root / split):  # each image beside its annotation, a folder for each split
        return VocSource(root, None, split, split, "")
    if not split and _has_xml(root):
        return VocSource(root, None, "", "", "")
    raise UserError(
        f"{root} is no Pascal VOC folder: Annotations and JPEGImages must lie in it or in VOC{year} below it, or XML"
        " files beside their images in a folder called as SPLIT (DATASETS.REGISTER: ROOT, YEAR and SPLIT)."
        " ANNOTATION_DIR and IMAGE_DIR name other folders."
    )


def _has_xml(folder: Path) -> bool:
    return folder.is_dir() and any(entry.name.lower().endswith(".xml") for entry in os.scandir(folder))


def image_ids(source: VocSource, checks: Checks, known: Mapping[str, str] | None = None) -> list[str]:
    """Image ids of a list: of each line the name of an image, without its folder, its ending and a flag behind it.

    Args:
        known: ids that there are; by them a blank in a name is told from one that ends it.

    Raises:
        UserError: an empty list, or one that is not text.
    """
    known = files_below(source.folder / source.annotation_dir, (".xml",)) if known is None else known
    if source.list_file is None:
        return list(known)
    path = source.list_file
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {path}: {error}.") from error
    ids: dict[str, None] = {}
    for line in filter(None, map(str.strip, lines)):
        name = _name_in(line, source.image_dir, known)
        if leads_out(name):
            checks.found("outside_root", f"{path} names {name!r}, which leads out of the data set's folder")
        elif name in ids:
            checks.found("duplicate_image_id", f"{path} lists {name} twice")
        elif name:
            ids[name] = None
    if not any(line.strip() for line in lines):
        raise UserError(f"{path} lists no image.")
    return list(ids)


def _name_in(line: str, image_dir: str, known: Mapping[str, str]) -> str:
    """The id that a line of a list names: all of it, without a flag behind it, or its first word."""
    if line in known and not line.lower().endswith(IMAGE_SUFFIXES):
        return line
    words = line.rsplit(None, 1)
    flagged = len(words) == 2 and words[1] in _FLAGS
    readings = [line, *(words[:1] if flagged else ()), line.split()[0]]
    names = [_without_suffix(reading.strip(), image_dir) for reading in readings]
    found = next((name for name in names if name in known), None)
    others = (other for name in names for other in spellings(name) if other in known)
    return found or next(others, names[1 if flagged else 0])


def _without_suffix(name: str, image_dir: str) -> str:
    name = name.replace("\\", "/").removeprefix("./").removeprefix(f"{image_dir}/")
    return name.rsplit(".", 1)[0] if name.lower().endswith(IMAGE_SUFFIXES) else name


def load_voc(
    source: VocSource,
    classes: Sequence[str],
    checks: Checks,
    files: Mapping[str, str],
    pictures: Mapping[str, str],
    read: Mapping[str, Annotation | Fault] = MappingProxyType({}),
) -> Table:
    """The split as a table; each annotation also carries `difficult`.

    Boxes become 0-based with excluded right and lower edge, as in Detectron2's own loader: only xmin and ymin shift.

    Args:
        files, pictures: the annotation files and the images, see `files_below`.
        read: what annotation files say, or why they cannot be read, by path; others are read now.
    """
    index = {name: i for i, name in enumerate(classes)}
    images: list[tuple[str, str, int, int]] = []
    rows: list[tuple[int, int, tuple[float, ...], int]] = []
    ids = list(files) if source.list_file is None else image_ids(source, checks, {**pictures, **files})
    count, below = 0, str(source.folder / source.annotation_dir)
    meant = _meant([name for name in ids if name not in pictures], pictures, files)
    for name in ids:
        path = files.get(name) or f"{below}/{name}.xml"
        content = read.get(path) or _annotation(source, name, path, pictures, checks)
        if content is None:
            continue
        picture = pictures.get(name) or pictures.get(meant.get(name, ""))
        if isinstance(content, Fault) or picture is None:
            checks.found_fault(content if isinstance(content, Fault) else _no_image(source, name))
            continue
        if name in meant and not checks.found("respelled_file", f"the image {name} of {path} is {picture}"):
            continue
        for fault_text in content.faults:
            checks.found("malformed_object", fault_text)
        count += len(content.objects) + len(content.faults)
        rows += [
            (len(images), index[entry.name], box, entry.difficult)
            for entry in content.objects
            if (box := _box(entry, index, path, checks)) is not None
        ]
        images.append((picture, name, content.height, content.width))
    checks.listed = {IMAGE: len(ids), ANNOTATION: count}
    return _table(images, rows)


def _meant(names: Sequence[str], pictures: Mapping[str, str], files: Mapping[str, str]) -> dict[str, str]:
    """Name that no image has -> that of the one image that it means in another spelling, and no other name does."""
    known = uploads(pictures) if names else {}
    found = {}
    for name in names:
        other = next((other for other in spellings(name) if other in pictures), None) or find_upload(name, known)
        if other is not None and other not in files:
            found[name] = other
    counts = Counter(found.values())
    return {name: other for name, other in found.items() if counts[other] == 1}


def _no_image(source: VocSource, name: str) -> Fault:
    endings = f"{', '.join(IMAGE_SUFFIXES[:4])}, ..."
    return Fault("missing_file", f"{source.folder / source.image_dir} holds no image {name} ({endings})")


def _annotation(
    source: VocSource, name: str, path: str, pictures: Mapping[str, str], checks: Checks
) -> Annotation | Fault | None:
    """What a file says; of an image without one, that it has no box; None if such images are left out."""
    try:
        return read_annotation(path)
    except Fault as fault:
        if fault.kind != "missing_file":
            return fault
    if name not in pictures:
        return _no_image(source, name)
    text = f"{pictures[name]} has no annotation {path}"
    if checks.found("unannotated_image", text):
        return Annotation(UNKNOWN, UNKNOWN, (), ())
    return None


def _table(images: list[tuple[str, str, int, int]], rows: list[tuple[int, int, tuple[float, ...], int]]) -> Table:
    size = np.array([image[2:] for image in images], dtype=np.int64).reshape(-1, 2)
    files, numbers = (column_of([image[k] for image in images]) for k in (0, 1))
    none = {name: np.zeros(len(rows), dtype=np.int64) for name in ("number", "first", "polygons", "code", "code_size")}
    boxes = Boxes(
        owner=np.array([row[0] for row in rows], dtype=np.int64),
        category=np.array([row[1] for row in rows], dtype=np.int32),
        box=np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 4),
        mode=np.full(len(rows), int(BoxMode.XYXY_ABS), dtype=np.uint8),
        crowd=np.zeros(len(rows), dtype=np.uint8),
        difficult=np.array([row[3] for row in rows], dtype=np.int64),
        area=np.full(len(rows), np.nan),
        **none,
    )
    flags = np.zeros(len(images), np.uint8)
    return Table(Images(files, numbers, size[:, 0], size[:, 1], flags), boxes, no_shapes(), VOC)


def _box(entry: Described, index: Mapping[str, int], path: str, checks: Checks) -> tuple[float, ...] | None:
    if entry.name not in index:
        known = ", ".join(index)
        checks.found("unknown_class", f"{path} names the class {entry.name!r}, which is not in {known}")
        return None
    xmin, ymin, xmax, ymax = entry.box
    where = f"{path}: a box of {entry.name} from ({xmin:g}, {ymin:g}) to ({xmax:g}, {ymax:g})"
    if entry.unclear and not checks.found("unclear_difficult", f"{where} has the difficult {entry.unclear[:80]!r}"):
        return None
    if entry.outlined and not checks.found("no_box", f"{where} is that of a polygon"):
        return None
    if xmin > xmax or ymin > ymax:  # here, where the corners are still as written
        if not checks.found("inverted_box", f"{where} ends before it begins"):
            return None
        xmin, xmax, ymin, ymax = min(xmin, xmax), max(xmin, xmax), min(ymin, ymax), max(ymin, ymax)
    if (xmin == xmax or ymin == ymax) and not checks.found("one_pixel_box", where):
        return None
    return xmin - 1.0, ymin - 1.0, xmax, ymax
