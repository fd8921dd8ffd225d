"""Reading Pascal VOC folders: Annotations/*.xml, ImageSets/Main/<split>.txt, JPEGImages/*."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from detectron2.structures import BoxMode

from clop_det.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc_folder(root: Path, year: int) -> Path:
    """The folder that holds `Annotations`: `root` itself, or `root/VOC<year>` as in VOCdevkit.

    Raises:
        UserError: neither is a VOC folder.
    """
    for folder in (root, root / f"VOC{year}"):
        if all((folder / part).is_dir() for part in ("Annotations", "ImageSets/Main", "JPEGImages")):
            return folder
    raise UserError(
        f"{root} is no Pascal VOC folder: Annotations, ImageSets/Main and JPEGImages must lie in it or in VOC{year}"
        " below it (DATASETS.REGISTER: ROOT and YEAR)."
    )


def split_ids(folder: Path, split: str) -> list[str]:
    """Image ids of `ImageSets/Main/<split>.txt`; of each line the first word counts.

    Raises:
        UserError: no such list, an empty list, an id twice, or an id that leads out of the folder.
    """
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.txt"))) or "none"
        raise UserError(f"{path} does not exist; splits there: {known}.")
    ids = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not ids:
        raise UserError(f"{path} lists no image.")
    if len(set(ids)) < len(ids):
        twice = next(name for i, name in enumerate(ids) if name in ids[:i])
        raise UserError(f"{path} lists {twice} twice; list each image once.")
    for name in ids:
        check_inside(name, path)
    return ids


def check_inside(name: str, where: Path) -> None:
    """Raise UserError if a file name from an annotation file leads out of its folder."""
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or "\x00" in name:
        raise UserError(f"{where} names {name!r}, which leads out of the data set's folder; refused.")


def read_xml(path: Path) -> ElementTree.Element:
    """The root element of an annotation file.

    Raises:
        UserError: missing, not XML, or with a DOCTYPE (entities could read other files or exhaust the memory).
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the annotation {path}: {error.strerror or error}.") from error
    if b"<!doctype" in text[:4096].lower() or b"<!entity" in text.lower():
        raise UserError(f"{path} holds a DOCTYPE or an entity, which annotations do not need; refused.")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is not well-formed XML: {error}.") from error


@cache
def read_annotation(path: Path) -> dict[str, Any]:
    """One annotation file as {"width", "height", "objects": ({"name", "difficult", "box"}, ...)}.

    `box` is (xmin, ymin, xmax, ymax) as written: pixel indices from 1, corners included. Absent `difficult` is 0.

    Raises:
        UserError: see `read_xml`; an object without name or box.
    """
    tree = read_xml(path)
    try:
        size = {key: int(float(tree.findtext(f"size/{key}", "0"))) for key in ("width", "height")}
        objects = tuple(_read_object(entry) for entry in tree.findall("object"))
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: an object lacks a name or a box of four numbers ({error}).") from error
    return {**size, "objects": objects}


def _read_object(entry: ElementTree.Element) -> dict[str, Any]:
    name = entry.findtext("name")
    if not name:
        raise ValueError("no <name>")
    box = tuple(float(entry.findtext(f"bndbox/{corner}") or "") for corner in _CORNERS)
    return {"name": name.strip(), "difficult": int(entry.findtext("difficult") or 0), "box": box}


def find_classes(folder: Path) -> tuple[str, ...]:
    """All class names in the folder's annotations, sorted: the same for every split.

    Raises:
        UserError: no annotation names an object.
    """
    names: set[str] = set()
    for path in sorted((folder / "Annotations").glob("*.xml")):
        names |= {entry["name"] for entry in read_annotation(path)["objects"]}
    if not names:
        raise UserError(f"no annotation in {folder / 'Annotations'} names an object.")
    return tuple(sorted(names))


def image_path(folder: Path, name: str) -> Path:
    """The image of an id in `JPEGImages`; UserError if there is none."""
    for suffix in IMAGE_SUFFIXES:
        path = folder / "JPEGImages" / f"{name}{suffix}"
        if path.is_file():
            return path
    raise UserError(f"{folder / 'JPEGImages'} holds no image {name} ({', '.join(IMAGE_SUFFIXES[:3])}).")


def load_voc(folder: Path, split: str, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Dataset dicts in Detectron2's standard format; each annotation also carries `difficult`.

    Boxes become 0-based with excluded right and lower edge, as in Detectron2's own loader: only xmin and ymin shift.

    Raises:
        UserError: a file is missing or malformed, or an object's class is not in `classes`.
    """
    index = {name: i for i, name in enumerate(classes)}
    records = []
    for name in split_ids(folder, split):
        path = folder / "Annotations" / f"{name}.xml"
        content = read_annotation(path)
        annotations = []
        for entry in content["objects"]:
            if entry["name"] not in index:
                raise UserError(f"{path} names the class {entry['name']!r}, which is not in {', '.join(classes)}.")
            xmin, ymin, xmax, ymax = entry["box"]
            annotations.append(
                {
                    "category_id": index[entry["name"]],
                    "bbox": [xmin - 1.0, ymin - 1.0, xmax, ymax],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "difficult": entry["difficult"],
                }
            )
        record = {"file_name": str(image_path(folder, name)), "image_id": name, "annotations": annotations}
        records.append({**record, "height": content["height"], "width": content["width"]})
    return records
