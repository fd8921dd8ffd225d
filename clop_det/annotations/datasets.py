"""Detection data sets from YAML: DATASETS.REGISTER is a list of mappings, each of which registers one data set.

    DATASETS:
      REGISTER:
        - {NAME: bccd_train, LAYOUT: voc, ROOT: ../data/bccd_voc, SPLIT: trainval}
        - {NAME: fish_val, LAYOUT: coco, ROOT: ../data/fish, JSON: annotations/val.json, IMAGE_DIR: JPEGImages}

NAME, LAYOUT and ROOT are required. voc: SPLIT names the list in ImageSets/Main (absent: every annotation); YEAR (2007,
the default, or 2012) chooses the metric that Detectron2's VOC evaluator would use. coco: JSON and IMAGE_DIR are
relative to ROOT; by default annotations/instances_<SPLIT>.json and the first of <SPLIT>, images, JPEGImages, or ROOT
itself. In both, CLASSES is a list of names, or a file with one a line (by default they are found in the annotations),
and LIST a file with one image a line, instead of SPLIT's list or as a choice from the JSON; both files are relative to
ROOT.

Whatever is registered, here or by Detectron2, is checked as DATASETS.CHECKS says when it is loaded.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from clop_det.annotations.checked import check_records, keep_masked
from clop_det.annotations.checks import Checks, Policies
from clop_det.annotations.sources import LAYOUTS, Reader, Record, foreign_reader, read_lines
from clop_det.annotations.voc import read_annotation
from clop_det.data.decoding import use_decoding
from clop_det.data.paths import local_path
from clop_det.errors import UserError

_KEYS = {"NAME", "LAYOUT", "ROOT", "SPLIT", "YEAR", "CLASSES", "JSON", "IMAGE_DIR", "LIST"}
_PATH = (str, os.PathLike)
# Key -> what its value may be, and that in words.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "NAME": ((str,), "text"),
    "LAYOUT": ((str,), "text"),
    "ROOT": (_PATH, "a folder or an address such as digits://cluttered"),
    "SPLIT": ((str, int), "text"),
    "CLASSES": ((str, list, tuple), "a list of names, or a file with one a line"),
    "JSON": (_PATH, "a path relative to ROOT"),
    "IMAGE_DIR": (_PATH, "a path relative to ROOT"),
    "LIST": (_PATH, "a path relative to ROOT"),
}
_registered: dict[str, dict[str, Any]] = {}
_readers: dict[str, Reader] = {}
_loaded: dict[tuple[str, bool], tuple[list[Record], Checks]] = {}  # by name, and whether each box needs a mask
_policies = Policies()


def use_datasets(cfg: CfgNode, *, reread: bool = True) -> None:
    """Register DATASETS.REGISTER and check what is loaded from now on as DATASETS.CHECKS says.

    Args:
        reread: whether to forget what this process has loaded; without it a data set is read once.

    Raises:
        UserError: see `register_datasets`; a policy that a kind does not admit.
    """
    global _policies
    use_decoding(cfg.INPUT)
    policies = Policies.of(cfg.DATASETS.CHECKS)
    if reread or policies != _policies:
        _loaded.clear()
        read_annotation.cache_clear()
    _policies = policies
    register_datasets(cfg.DATASETS.REGISTER)


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
        if name in DatasetCatalog and name not in _registered:
            raise UserError(f"DATASETS.REGISTER: {name} is the name of a built-in data set; choose another NAME.")
        reader, metadata = LAYOUTS[spec["LAYOUT"]](spec)
        forget(name)
        _registered[name], _readers[name] = spec, reader
        DatasetCatalog.register(name, partial(load_dataset, name))
        MetadataCatalog.get(name).set(**metadata)


def forget(name: str) -> None:
    """Take a data set of DATASETS.REGISTER out of the catalogues; no harm if it is not there."""
    if _registered.pop(name, None) is None:
        return
    _readers.pop(name, None)
    for masked in (False, True):
        _loaded.pop((name, masked), None)
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def _checked(entry: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(entry, Mapping):
        raise UserError(f"DATASETS.REGISTER must be a list of mappings (NAME, LAYOUT, ROOT, ...), but holds {entry!r}.")
    unknown, missing = set(entry) - _KEYS, {"NAME", "LAYOUT", "ROOT"} - set(entry)
    if unknown or missing:
        problem = f"unknown key {min(map(str, unknown))}" if unknown else f"no {min(missing)}"
        raise UserError(f"DATASETS.REGISTER, entry {dict(entry)}: {problem}; keys are {', '.join(sorted(_KEYS))}.")
    for key, (types, expected) in _TYPES.items():
        value = entry.get(key, "")
        if not isinstance(value, types) or isinstance(value, bool) or (key in ("NAME", "ROOT") and not value):
            raise UserError(f"DATASETS.REGISTER, entry {dict(entry)}: {key} is {value!r}; it must be {expected}.")
    if entry["LAYOUT"] not in LAYOUTS:
        raise UserError(
            f"DATASETS.REGISTER, {entry['NAME']}: LAYOUT is {entry['LAYOUT']!r}; it must be {' or '.join(LAYOUTS)}."
        )
    spec = {"SPLIT": "", "YEAR": 2007, "CLASSES": (), "JSON": "", "IMAGE_DIR": "", "LIST": "", **entry}
    if spec["YEAR"] not in (2007, 2012):
        raise UserError(f"DATASETS.REGISTER, {spec['NAME']}: YEAR is {spec['YEAR']!r}; it must be 2007 or 2012.")
    return {**spec, "SPLIT": str(spec["SPLIT"]), "CLASSES": _classes(spec)}


def _classes(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Class names in the order given, from the entry or the file that it names; empty: none are given."""
    classes = spec["CLASSES"]
    if isinstance(classes, str):
        classes = read_lines(local_path(spec["ROOT"]) / classes, f"DATASETS.REGISTER, {spec['NAME']}: CLASSES")
    for name in classes:
        if not isinstance(name, str | int) or isinstance(name, bool):
            raise UserError(f"DATASETS.REGISTER, {spec['NAME']}: CLASSES names {name!r}; a class name is text.")
    classes = tuple(str(name) for name in classes)
    if len(set(classes)) < len(classes):
        raise UserError(f"DATASETS.REGISTER, {spec['NAME']}: CLASSES names one class twice: {', '.join(classes)}.")
    return classes


def load_dataset(name: str, *, masked: bool = False) -> list[Record]:
    """Checked dataset dicts of a registered data set, the caller's own to change (masks excepted).

    Args:
        masked: without the boxes that have no mask, as a detector of masks is trained (crowds stay).

    Raises:
        UserError: files are missing, or the checks found something whose policy is "fail".
    """
    return [
        {**record, "annotations": [{**entry, "bbox": list(entry["bbox"])} for entry in record["annotations"]]}
        for record in _load(name, masked)[0]
    ]


def checks_of(name: str, *, masked: bool = False) -> Checks:
    """What the checks of a registered data set found; see `load_dataset` for the arguments and errors."""
    return _load(name, masked)[1]


def _load(name: str, masked: bool) -> tuple[list[Record], Checks]:
    if (name, masked) not in _loaded:
        if masked:
            records, found = _load(name, False)
            checks = copy.deepcopy(found)
            records = keep_masked(records, checks)
        else:
            checks = Checks(name, _policies)
            records = check_records((_readers.get(name) or foreign_reader(name))(checks), checks)
        checks.finish()
        _loaded[name, masked] = (records, checks)
    return _loaded[name, masked]


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
