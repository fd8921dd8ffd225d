"""Readers of data sets: from an entry of DATASETS.REGISTER, or from what Detectron2's metadata says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from clop_det.annotations.checks import Checks
from clop_det.annotations.coco import CocoSource, find_categories, load_coco, read_coco
from clop_det.annotations.voc import find_classes, load_voc, voc_source
from clop_det.data.paths import local_path
from clop_det.errors import UserError

Record = dict[str, Any]
Reader = Callable[[Checks], list[Record]]


def read_lines(path: Path, what: str) -> tuple[str, ...]:
    """The lines of a text file that are not blank.

    Args:
        what: the key that names the file, for errors.

    Raises:
        UserError: it cannot be read, or holds nothing.
    """
    try:
        lines = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{what}: cannot read {path}: {error}.") from error
    if not lines:
        raise UserError(f"{what}: {path} holds no line.")
    return lines


def _voc(spec: Mapping[str, Any]) -> tuple[Reader, dict[str, Any]]:
    source = voc_source(local_path(spec["ROOT"]), spec["YEAR"], spec["SPLIT"], spec["LIST"])
    classes = spec["CLASSES"] or find_classes(source.folder)
    metadata = {
        "thing_classes": list(classes),
        "dirname": str(source.folder),
        "split": spec["SPLIT"],
        "year": spec["YEAR"],
        "evaluator_type": "pascal_voc",
    }
    return lambda checks: load_voc(source, classes, checks), metadata


def _coco(spec: Mapping[str, Any]) -> tuple[Reader, dict[str, Any]]:
    name, root = spec["NAME"], local_path(spec["ROOT"])
    path = root / (spec["JSON"] or f"annotations/instances_{spec['SPLIT']}.json")
    if not path.is_file():
        known = ", ".join(str(file.relative_to(root)) for file in sorted(root.glob("annotations/*.json"))) or "none"
        raise UserError(f"{name}: {path} does not exist; annotation files there: {known} (set SPLIT or JSON).")
    source = CocoSource(path, _image_dir(root, spec), find_categories(read_coco(path), spec["CLASSES"], path))
    only = read_lines(root / spec["LIST"], f"DATASETS.REGISTER, {name}: LIST") if spec["LIST"] else ()
    metadata = {
        "thing_classes": list(source.names),
        "thing_dataset_id_to_contiguous_id": source.index,
        "json_file": str(path),
        "image_root": str(source.image_dir),
        "evaluator_type": "coco",
    }
    return lambda checks: load_coco(source, checks, only), metadata


LAYOUTS: dict[str, Callable[[Mapping[str, Any]], tuple[Reader, dict[str, Any]]]] = {"voc": _voc, "coco": _coco}


def _image_dir(root: Path, spec: Mapping[str, Any]) -> Path:
    if spec["IMAGE_DIR"]:
        if not (root / spec["IMAGE_DIR"]).is_dir():
            raise UserError(f"{spec['NAME']}: IMAGE_DIR {spec['IMAGE_DIR']!r} is no folder in {root}.")
        return Path(root / spec["IMAGE_DIR"])
    candidates = [root / part for part in (spec["SPLIT"], "images", "JPEGImages") if part]
    return next((folder for folder in candidates if folder.is_dir()), root)


def foreign_reader(name: str) -> Reader:
    """A reader for a data set that Detectron2 or the user's own code registered.

    Pascal VOC folders and COCO files, known by their metadata, go through this package's readers: they keep `difficult`
    and report faults one by one. Others are taken as they load.
    """
    metadata = MetadataCatalog.get(name)
    if metadata.get("dirname") and metadata.get("split") and metadata.get("thing_classes"):
        source = _found(name, metadata.dirname, lambda: voc_source(Path(metadata.dirname), 2007, metadata.split))
        return lambda checks: load_voc(source, metadata.thing_classes, checks)
    if metadata.get("json_file") and metadata.get("image_root") and metadata.get("evaluator_type") == "coco":
        path = Path(metadata.json_file)
        coco = _found(name, path, lambda: CocoSource(path, Path(metadata.image_root), _categories(metadata, path)))
        metadata.set(thing_classes=list(coco.names), thing_dataset_id_to_contiguous_id=coco.index)
        return lambda checks: load_coco(coco, checks)

    def read(checks: Checks) -> list[Record]:
        return [
            {**record, "annotations": [dict(entry) for entry in record.get("annotations", ())]}
            for record in _found(name, "", lambda: DatasetCatalog.get(name))
        ]

    return read


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


def _categories(metadata: Any, path: Path) -> dict[int, str]:
    index, names = metadata.get("thing_dataset_id_to_contiguous_id"), metadata.get("thing_classes")
    if index and names:
        return {category: names[i] for category, i in sorted(index.items(), key=lambda item: item[1])}
    return find_categories(read_coco(path), (), path)
