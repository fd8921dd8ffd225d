"""Reading Pascal VOC folders: Annotations/*.xml, ImageSets/Main/<split>.txt, JPEGImages/*."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from detectron2.structures import BoxMode

from clop_det.annotations.checks import Checks, Fault
from clop_det.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_LISTS = "ImageSets/Main"


@dataclass(frozen=True)
class VocSource:
    """One split of a Pascal VOC folder.

    Attributes:
        folder: holds Annotations and JPEGImages.
        list_file: one image a line, by id or file name; None: every annotation file.
    """

    folder: Path
    list_file: Path | None


def voc_source(root: Path, year: int, split: str, list_file: str = "") -> VocSource:
    """The source that DATASETS.REGISTER describes: `root` itself, or `root/VOC<year>` as in VOCdevkit.

    Args:
        split: the list ImageSets/Main/<split>.txt; empty: every annotation file.
        list_file: another list, relative to `root`, instead of `split`.

    Raises:
        UserError: no VOC folder, or no such list.
    """
    for folder in (root, root / f"VOC{year}"):
        if all((folder / part).is_dir() for part in ("Annotations", "JPEGImages")):
            break
    else:
        raise UserError(
            f"{root} is no Pascal VOC folder: Annotations and JPEGImages must lie in it or in VOC{year} below it"
            " (DATASETS.REGISTER: ROOT and YEAR)."
        )
    if not split and not list_file:
        return VocSource(folder, None)
    path = root / list_file if list_file else folder / _LISTS / f"{split}.txt"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in (folder / _LISTS).glob("*.txt"))) or "none"
        raise UserError(f"{path} does not exist; splits there: {known}.")
    return VocSource(folder, path)


def image_ids(source: VocSource, checks: Checks) -> list[str]:
    """Image ids of a list: of each line the first word, without folder JPEGImages and image suffix.

    Raises:
        UserError: an empty list, or one that is not text.
    """
    if source.list_file is None:
        annotations = source.folder / "Annotations"
        return sorted(path.relative_to(annotations).with_suffix("").as_posix() for path in annotations.rglob("*.xml"))
    path = source.list_file
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {path}: {error}.") from error
    ids: dict[str, None] = {}
    for line in lines:
        name = _without_suffix(line.split()[0]) if line.strip() else ""
        if not name:
            continue
        if leads_out(name):
            checks.found("outside_root", f"{path} names {name!r}, which leads out of the data set's folder")
        elif name in ids:
            checks.found("duplicate_image_id", f"{path} lists {name} twice")
        else:
            ids[name] = None
    if not any(line.strip() for line in lines):
        raise UserError(f"{path} lists no image.")
    return list(ids)


def _without_suffix(name: str) -> str:
    name = name.replace("\\", "/").removeprefix("./").removeprefix("JPEGImages/")
    return name.rsplit(".", 1)[0] if name.lower().endswith(tuple(s.lower() for s in IMAGE_SUFFIXES)) else name


def leads_out(name: str) -> bool:
    """Whether a file name from an annotation file leads out of its folder."""
    return Path(name).is_absolute() or ".." in Path(name).parts or "\x00" in name


def read_xml(path: Path) -> ElementTree.Element:
    """The root element of an annotation file.

    Raises:
        Fault: missing_file; doctype (entities could read other files or exhaust the memory); unreadable_annotation.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise Fault("missing_file", f"the annotation {path} does not exist") from error
    except OSError as error:
        raise Fault("unreadable_annotation", f"cannot read the annotation {path}: {error.strerror or error}") from error
    # Any encoding that the parser would take a declaration in: without the zeros, UTF-16 reads like ASCII.
    plain = text.replace(b"\x00", b"").lower()
    if b"<!doctype" in plain or b"<!entity" in plain:
        raise Fault("doctype", f"{path} holds a DOCTYPE or an entity, which annotations do not need; refused")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise Fault("unreadable_annotation", f"{path} is not well-formed XML: {error}") from error


@cache
def read_annotation(path: Path) -> dict[str, Any]:
    """One annotation file as {"width", "height", "objects": ({"name", "difficult", "box"}, ...), "faults": (...)}.

    `box` is (xmin, ymin, xmax, ymax) as written: pixel indices from 1, corners included. Absent `difficult` is 0, an
    absent or unreadable size 0 x 0. `faults` says of each object that could not be read what it lacks.

    Raises:
        Fault: see `read_xml`.
    """
    tree = read_xml(path)
    objects, faults = [], []
    for entry in tree.findall("object"):
        try:
            objects.append(_read_object(entry))
        except (TypeError, ValueError) as error:
            faults.append(f"{path}: an object lacks a name or a box of four numbers ({error})")
    size = {key: _whole(tree.findtext(f"size/{key}")) for key in ("width", "height")}
    return {**size, "objects": tuple(objects), "faults": tuple(faults)}


def _read_object(entry: ElementTree.Element) -> dict[str, Any]:
    name = (entry.findtext("name") or "").strip()
    if not name:
        raise ValueError("no <name>")
    box = tuple(float(entry.findtext(f"bndbox/{corner}") or "") for corner in _CORNERS)
    return {"name": name, "difficult": int(entry.findtext("difficult") or 0), "box": box}


def _whole(text: str | None) -> int:
    try:
        return int(float(text or 0))
    except (ValueError, OverflowError):
        return 0


def find_classes(folder: Path) -> tuple[str, ...]:
    """All class names in the folder's annotations, sorted: the same for every split.

    Files that cannot be read name nothing here; loading a split that lists one reports it.

    Raises:
        UserError: no annotation names an object.
    """
    names: set[str] = set()
    for path in sorted((folder / "Annotations").rglob("*.xml")):
        with contextlib.suppress(Fault):
            names |= {entry["name"] for entry in read_annotation(path)["objects"]}
    if not names:
        raise UserError(f"no annotation in {folder / 'Annotations'} names an object.")
    return tuple(sorted(names))


def image_path(folder: Path, name: str) -> Path:
    """The image of an id in `JPEGImages`; Fault "missing_file" if there is none."""
    for suffix in IMAGE_SUFFIXES:
        path = folder / "JPEGImages" / f"{name}{suffix}"
        if path.is_file():
            return path
    raise Fault("missing_file", f"{folder / 'JPEGImages'} holds no image {name} ({', '.join(IMAGE_SUFFIXES[:3])})")


def load_voc(source: VocSource, classes: Sequence[str], checks: Checks) -> list[dict[str, Any]]:
    """Dataset dicts in Detectron2's standard format; each annotation also carries `difficult`.

    Boxes become 0-based with excluded right and lower edge, as in Detectron2's own loader: only xmin and ymin shift.
    """
    index = {name: i for i, name in enumerate(classes)}
    records = []
    for name in image_ids(source, checks):
        path = source.folder / "Annotations" / f"{name}.xml"
        try:
            content, image = read_annotation(path), image_path(source.folder, name)
        except Fault as fault:
            checks.found_fault(fault)
            continue
        for fault_text in content["faults"]:
            checks.found("malformed_object", fault_text)
        annotations = [_annotation(entry, index, path, checks) for entry in content["objects"]]
        record = {"file_name": str(image), "image_id": name, "annotations": [a for a in annotations if a is not None]}
        records.append({**record, "height": content["height"], "width": content["width"]})
    return records


def _annotation(entry: dict[str, Any], index: dict[str, int], path: Path, checks: Checks) -> dict[str, Any] | None:
    if entry["name"] not in index:
        known = ", ".join(index)
        checks.found("unknown_class", f"{path} names the class {entry['name']!r}, which is not in {known}")
        return None
    xmin, ymin, xmax, ymax = entry["box"]
    where = f"{path}: a box of {entry['name']} from ({xmin:g}, {ymin:g}) to ({xmax:g}, {ymax:g})"
    if xmin > xmax or ymin > ymax:  # here, where the corners are still as written
        if not checks.found("inverted_box", f"{where} ends before it begins"):
            return None
        xmin, xmax, ymin, ymax = min(xmin, xmax), max(xmin, xmax), min(ymin, ymax), max(ymin, ymax)
    if (xmin == xmax or ymin == ymax) and not checks.found("one_pixel_box", where):
        return None
    return {
        "category_id": index[entry["name"]],
        "bbox": [xmin - 1.0, ymin - 1.0, xmax, ymax],
        "bbox_mode": BoxMode.XYXY_ABS,
        "difficult": entry["difficult"],
    }
