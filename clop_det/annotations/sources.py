"""Sources of data sets: from an entry of DATASETS.REGISTER, or from what Detectron2's metadata says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from clop_det.annotations.coco_set import CocoSet
from clop_det.annotations.voc import voc_source
from clop_det.annotations.voc_set import VocSet
from clop_det.data.paths import local_path
from clop_det.errors import UserError
from clop_det.files import read_ordinary

Source = VocSet | CocoSet
MODES = {"xywh": BoxMode.XYWH_ABS, "xyxy": BoxMode.XYXY_ABS}


def read_lines(path: Path, what: str) -> tuple[str, ...]:
    """The lines of a text file that are not blank.

    Args:
        what: the key that names the file, for errors.

    Raises:
        UserError: it cannot be read, or holds nothing.
    """
    try:
        lines = tuple(filter(None, map(str.strip, read_ordinary(path).decode("utf-8-sig").splitlines())))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{what}: cannot read {path}: {error}.") from error
    if not lines:
        raise UserError(f"{what}: {path} holds no line.")
    return lines


def _voc(spec: Mapping[str, Any]) -> tuple[Source, dict[str, Any]]:
    folders = str(spec["ANNOTATION_DIR"]), str(spec["IMAGE_DIR"])
    source = voc_source(local_path(spec["ROOT"]), spec["YEAR"], spec["SPLIT"], spec["LIST"], *folders)
    metadata = {
        "dirname": str(source.folder),
        "split": spec["SPLIT"],
        "year": spec["YEAR"],
        "evaluator_type": "pascal_voc",
    }
    return VocSet(source, spec["CLASSES"]), metadata


def _coco(spec: Mapping[str, Any]) -> tuple[Source, dict[str, Any]]:
    name, root = spec["NAME"], local_path(spec["ROOT"])
    path = _annotation_file(root, spec)
    only = read_lines(root / spec["LIST"], f"DATASETS.REGISTER, {name}: LIST") if spec["LIST"] else ()
    if spec["IMAGE_DIR"] and not (root / spec["IMAGE_DIR"]).is_dir():
        raise UserError(f"{name}: IMAGE_DIR {spec['IMAGE_DIR']!r} is no folder in {root}.")
    split = spec["SPLIT"]
    # Detectron2's, CVAT's, Roboflow's and Label Studio's places, and the folder of the annotation file.
    places = [split, f"images/{split}", f"{split}/images"] if split else []
    folders = [
        root / part for part in ([spec["IMAGE_DIR"]] if spec["IMAGE_DIR"] else [*places, "images", "JPEGImages"])
    ]
    source = CocoSet(
        path,
        folders if spec["IMAGE_DIR"] else [*folders, path.parent, root],
        spec["CLASSES"],
        only,
        MODES[spec["BOXES"]],
    )
    return source, {"json_file": str(path), "evaluator_type": "coco"}


def _annotation_file(root: Path, spec: Mapping[str, Any]) -> Path:
    """The JSON file that an entry names, or where exports put it.

    Raises:
        UserError: there is none.
    """
    split = spec["SPLIT"]
    usual = [f"annotations/instances_{split}.json", f"annotations/{split}.json", f"{split}/_annotations.coco.json"]
    usual += [f"{split}.json"] if split else ["result.json", "_annotations.coco.json"]
    paths = [root / part for part in ([spec["JSON"]] if spec["JSON"] else usual)]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        files = sorted(file for pattern in ("*.json", "*/*.json") for file in root.glob(pattern))
        known = ", ".join(str(file.relative_to(root)) for file in files[:10]) or "none"
        raise UserError(
            f"{spec['NAME']}: {paths[0]} does not exist; annotation files there: {known} (set SPLIT or JSON)."
        )
    return found


LAYOUTS: dict[str, Callable[[Mapping[str, Any]], tuple[Source, dict[str, Any]]]] = {"voc": _voc, "coco": _coco}


def foreign_source(name: str) -> Source | None:
    """The source of a data set that Detectron2 or the user's own code registered; None: only its function knows.

    Pascal VOC folders and COCO files, known by their metadata, are read as those of DATASETS.REGISTER: they keep
    `difficult` and report faults one by one.
    """
    metadata = MetadataCatalog.get(name)
    if metadata.get("dirname") and metadata.get("split") and metadata.get("thing_classes"):
        source = _found(name, metadata.dirname, lambda: voc_source(Path(metadata.dirname), 2007, metadata.split))
        return VocSet(source, tuple(metadata.thing_classes))
    if metadata.get("json_file") and metadata.get("image_root") and metadata.get("evaluator_type") == "coco":
        path = Path(metadata.json_file)
        _found(name, path, lambda: None)
        index, names = metadata.get("thing_dataset_id_to_contiguous_id"), tuple(metadata.get("thing_classes") or ())
        known = {category: names[i] for category, i in index.items()} if index and names else None
        return CocoSet(path, [Path(metadata.image_root)], names, known=known)
    return None


def given_records(name: str) -> Any:
    """What the function of a registered data set gives.

    Raises:
        UserError: its files are missing.
    """
    return _found(name, "", lambda: DatasetCatalog.get(name))


def _found(name: str, path: str | Path, make: Callable[[], Any]) -> Any:
    """`make()`, with an error that says where built-in data sets lie."""
    place = (
        f"data set {name}: {{}} is missing. Built-in data sets lie under the folder in the environment variable"
        " DETECTRON2_DATASETS (default: ./datasets)."
    )
    if path and not Path(path).exists():
        raise UserError(place.format(path))
    try:
        return make()
    except FileNotFoundError as error:
        raise UserError(place.format(error.filename or error)) from error
