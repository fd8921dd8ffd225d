"""Detection data sets from YAML: DATASETS.REGISTER is a list of mappings, each of which registers one data set.

    DATASETS:
      REGISTER:
        - {NAME: bccd_train, LAYOUT: voc, ROOT: ../data/bccd_voc, SPLIT: trainval}
        - {NAME: fish_val, LAYOUT: coco, ROOT: ../data/fish, JSON: annotations/val.json, IMAGE_DIR: JPEGImages}

NAME and LAYOUT and ROOT are required. voc: SPLIT names the list in ImageSets/Main; YEAR (2007, the default, or 2012)
chooses the metric that Detectron2's VOC evaluator would use. coco: JSON and IMAGE_DIR are relative to ROOT; by default
annotations/instances_<SPLIT>.json and the first of <SPLIT>, images, JPEGImages, or ROOT itself. CLASSES, in both, is a
list of names; by default they are found in the annotations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from clop_det.data.paths import local_path
from clop_det.detection.coco import find_categories, load_coco, read_coco
from clop_det.detection.voc import find_classes, load_voc, split_ids, voc_folder
from clop_det.errors import UserError

LAYOUTS = ("voc", "coco")
_KEYS = {"NAME", "LAYOUT", "ROOT", "SPLIT", "YEAR", "CLASSES", "JSON", "IMAGE_DIR"}
_registered: dict[str, dict[str, Any]] = {}


def register_datasets(entries: Sequence[Mapping[str, Any]]) -> None:
    """Register every entry of DATASETS.REGISTER; doing so again changes nothing, or replaces what has changed.

    Raises:
        UserError: an unknown or missing key, a missing root or file, or the name of a data set of Detectron2's own.
    """
    for entry in entries:
        spec = _checked(entry)
        name = spec["NAME"]
        if _registered.get(name) == spec and name in DatasetCatalog:
            continue
        if name in DatasetCatalog:
            if name not in _registered:
                raise UserError(f"DATASETS.REGISTER: {name} is the name of a built-in data set; choose another NAME.")
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        (_register_voc if spec["LAYOUT"] == "voc" else _register_coco)(spec)
        _registered[name] = spec


def _checked(entry: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise UserError(f"DATASETS.REGISTER must be a list of mappings (NAME, LAYOUT, ROOT, ...), but holds {entry!r}.")
    unknown, missing = set(entry) - _KEYS, {"NAME", "LAYOUT", "ROOT"} - set(entry)
    if unknown or missing:
        problem = f"unknown key {sorted(unknown)[0]}" if unknown else f"no {sorted(missing)[0]}"
        raise UserError(f"DATASETS.REGISTER, entry {dict(entry)}: {problem}; keys are {', '.join(sorted(_KEYS))}.")
    if entry["LAYOUT"] not in LAYOUTS:
        raise UserError(f"DATASETS.REGISTER, {entry['NAME']}: LAYOUT is {entry['LAYOUT']!r}; it must be voc or coco.")
    spec = {"SPLIT": "", "YEAR": 2007, "CLASSES": (), "JSON": "", "IMAGE_DIR": "", **entry}
    if spec["YEAR"] not in (2007, 2012):
        raise UserError(f"DATASETS.REGISTER, {spec['NAME']}: YEAR is {spec['YEAR']!r}; it must be 2007 or 2012.")
    return {**spec, "CLASSES": tuple(str(name) for name in spec["CLASSES"])}


def _register_voc(spec: dict[str, Any]) -> None:
    name, split = spec["NAME"], spec["SPLIT"]
    folder = voc_folder(local_path(spec["ROOT"]), spec["YEAR"])
    split_ids(folder, split)
    classes = spec["CLASSES"] or find_classes(folder)
    DatasetCatalog.register(name, lambda: load_voc(folder, split, classes))
    MetadataCatalog.get(name).set(
        thing_classes=list(classes),
        dirname=str(folder),
        split=split,
        year=spec["YEAR"],
        evaluator_type="pascal_voc",
    )


def _register_coco(spec: dict[str, Any]) -> None:
    name, root = spec["NAME"], local_path(spec["ROOT"])
    path = root / (spec["JSON"] or f"annotations/instances_{spec['SPLIT']}.json")
    if not path.is_file():
        known = ", ".join(str(file.relative_to(root)) for file in sorted(root.glob("annotations/*.json"))) or "none"
        raise UserError(f"{name}: {path} does not exist; annotation files there: {known} (set SPLIT or JSON).")
    image_dir = _image_dir(root, spec)
    content = read_coco(path)
    categories = find_categories(content, spec["CLASSES"], path)
    DatasetCatalog.register(name, lambda: load_coco(path, image_dir, categories))
    MetadataCatalog.get(name).set(
        thing_classes=list(categories.values()),
        thing_dataset_id_to_contiguous_id={category: i for i, category in enumerate(categories)},
        json_file=str(path),
        image_root=str(image_dir),
        evaluator_type="coco",
    )


def _image_dir(root: Path, spec: Mapping[str, Any]) -> Path:
    if spec["IMAGE_DIR"]:
        if not (root / spec["IMAGE_DIR"]).is_dir():
            raise UserError(f"{spec['NAME']}: IMAGE_DIR {spec['IMAGE_DIR']!r} is no folder in {root}.")
        return Path(root / spec["IMAGE_DIR"])
    candidates = [root / part for part in (spec["SPLIT"], "images", "JPEGImages") if part]
    return next((folder for folder in candidates if folder.is_dir()), root)


def check_classes(cfg: CfgNode) -> int:
    """The number of classes of the data sets in DATASETS.TRAIN and TEST, which must all have the same class names.

    Raises:
        UserError: no data set, one that is not registered, or class names that differ (both sides are named).
    """
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not cfg.DATASETS.TRAIN or not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TRAIN and DATASETS.TEST must each name a data set.")
    for name in names:
        if name not in DatasetCatalog:
            known = ", ".join(_registered) or "none"
            raise UserError(f"data set {name} is not registered; DATASETS.REGISTER has {known}.")
    first = list(class_names(names[0]))
    for name in names[1:]:
        other = list(class_names(name))
        if other != first:
            raise UserError(
                f"{names[0]} has the classes {', '.join(first)}; {name} has {', '.join(other)}. Give both the same"
                " CLASSES."
            )
    return len(first)


def class_names(name: str) -> Sequence[str]:
    """Class names of a registered data set, in the order of the class indices."""
    metadata = MetadataCatalog.get(name)
    if metadata.get("thing_classes") is None:
        load_dataset(name)  # Detectron2's built-in COCO-style custom sets learn their classes by loading
    return tuple(metadata.thing_classes)


def load_dataset(name: str) -> list[dict[str, Any]]:
    """Dataset dicts of a registered data set; UserError where a built-in one's files are missing."""
    try:
        records: list[dict[str, Any]] = DatasetCatalog.get(name)
    except FileNotFoundError as error:
        raise UserError(
            f"data set {name}: {error.filename or error} is missing. Built-in data sets lie under the folder in the"
            " environment variable DETECTRON2_DATASETS (default: ./datasets)."
        ) from error
    return records


def set_num_classes(cfg: CfgNode) -> None:
    """Check MODEL.ROI_HEADS.NUM_CLASSES and MODEL.RETINANET.NUM_CLASSES against the data, or fill in what is 0.

    Raises:
        UserError: the number given is not that of the data set; both are named.
    """
    found = check_classes(cfg)
    key, node = ("ROI_HEADS", cfg.MODEL.ROI_HEADS)
    if cfg.MODEL.META_ARCHITECTURE == "RetinaNet":
        key, node = ("RETINANET", cfg.MODEL.RETINANET)
    if node.NUM_CLASSES == 0:
        node.NUM_CLASSES = found
    elif found != node.NUM_CLASSES:
        names = ", ".join(class_names(cfg.DATASETS.TRAIN[0])[:10])
        raise UserError(
            f"MODEL.{key}.NUM_CLASSES is {node.NUM_CLASSES}, but {cfg.DATASETS.TRAIN[0]} has {found} classes ({names}"
            f"{', ...' if found > 10 else ''}). Set it to {found}, or to 0 to take it from the data set."
        )
