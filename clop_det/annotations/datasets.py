"""Detection data sets from YAML: DATASETS.REGISTER is a list of mappings, each of which registers one data set.

    DATASETS:
      REGISTER:
        - {NAME: bccd_train, LAYOUT: voc, ROOT: ../data/bccd_voc, SPLIT: trainval}
        - {NAME: fish_val, LAYOUT: coco, ROOT: ../data/fish, JSON: annotations/val.json, IMAGE_DIR: JPEGImages}

NAME, LAYOUT and ROOT are required; docs/detection.md says what the other keys mean in each layout. Files and folders
are relative to ROOT.

Whatever is registered, here, by Detectron2 or in Python, is checked as DATASETS.CHECKS says when it is loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from clop_det.annotations.checked import check_table, keep_masked
from clop_det.annotations.checks import Checks, Policies
from clop_det.annotations.entries import checked_entry
from clop_det.annotations.given import table_of
from clop_det.annotations.kept import Loaded, load, metadata_of
from clop_det.annotations.sources import LAYOUTS, Source, foreign_source, given_records
from clop_det.annotations.table import Record, Table
from clop_det.data.decoding import use_decoding
from clop_det.errors import UserError

_registered: dict[str, dict[str, Any]] = {}
_sources: dict[str, Source] = {}
_own_classes: dict[str, tuple[str, ...]] = {}  # of registered sets, without what another set's classes add
_adopted: dict[str, tuple[str, ...]] = {}  # the classes of the training set, where a set has fewer
_loaded: dict[tuple[str, bool], Loaded] = {}  # by name, and whether each box needs a mask
_policies = Policies()


def use_datasets(cfg: CfgNode, *, reread: bool = True) -> None:
    """Register DATASETS.REGISTER and check what is loaded from now on as DATASETS.CHECKS says.

    A registered set without CLASSES all of whose classes the first training set has is read with that set's classes.

    Args:
        reread: whether to forget what this process has loaded; without it a data set is read once.

    Raises:
        UserError: see `register_datasets`; a policy that a kind does not admit.
    """
    global _policies
    use_decoding(cfg.INPUT)
    policies = Policies.of(cfg.DATASETS.CHECKS, cfg.DATASETS.MAX_FAULT_SHARE)
    if reread or policies != _policies:
        _loaded.clear()
        _sources.clear()
    _policies = policies
    register_datasets(cfg.DATASETS.REGISTER)
    first, *others = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST] or [""]
    classes = MetadataCatalog.get(first).get("thing_classes") if first in DatasetCatalog else None
    for name in others:
        if name in _registered and name != first:
            _adopt(name, tuple(classes or ()))


def register_datasets(entries: Sequence[Mapping[str, Any]]) -> None:
    """Register every entry of DATASETS.REGISTER; doing so again changes nothing, or replaces what has changed.

    Raises:
        UserError: an unknown or missing key, a missing root or file, or the name of a data set of Detectron2's own.
    """
    for entry in entries:
        spec = checked_entry(entry)
        name = spec["NAME"]
        if _registered.get(name) == spec and name in DatasetCatalog and name in _sources:
            continue
        if name in DatasetCatalog and name not in _registered:
            raise UserError(f"DATASETS.REGISTER: {name} is the name of a built-in data set; choose another NAME.")
        source, metadata = LAYOUTS[spec["LAYOUT"]](spec)
        metadata |= metadata_of(source, _policies)
        forget(name)
        _registered[name], _sources[name] = spec, source
        _own_classes[name] = tuple(metadata["thing_classes"])
        DatasetCatalog.register(name, partial(_dataset_dicts, name))
        MetadataCatalog.get(name).set(**metadata)


def _adopt(name: str, classes: tuple[str, ...]) -> None:
    """Read a registered data set with these classes, if it was given none and has no other."""
    own = _own_classes[name]
    wanted = classes if not _registered[name]["CLASSES"] and set(own) <= set(classes) and own != classes else ()
    if wanted == _adopted.get(name, ()):
        return
    _adopted[name] = wanted
    _sources.pop(name, None)
    for masked in (False, True):
        _loaded.pop((name, masked), None)
    kept = MetadataCatalog.get(name).as_dict()
    MetadataCatalog.remove(name)
    MetadataCatalog.get(name).set(**{**kept, **metadata_of(_source(name), _policies)})


def _source(name: str) -> Source:
    """The source of a data set of DATASETS.REGISTER."""
    if name not in _sources:
        spec = _registered[name]
        _sources[name] = LAYOUTS[spec["LAYOUT"]]({**spec, "CLASSES": _adopted.get(name) or spec["CLASSES"]})[0]
    return _sources[name]


def forget(name: str) -> None:
    """Take a data set of DATASETS.REGISTER out of the catalogues; no harm if it is not there."""
    if _registered.pop(name, None) is None:
        return
    for known in (_sources, _own_classes, _adopted):
        known.pop(name, None)  # type: ignore[attr-defined]
    for masked in (False, True):
        _loaded.pop((name, masked), None)
    if name in DatasetCatalog:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def load_dataset(name: str, *, masked: bool = False) -> Table:
    """A registered data set, checked: a sequence of dataset dicts, each made anew when it is asked for.

    Args:
        masked: without the boxes that have no mask, as a detector of masks is trained (crowds stay).

    Raises:
        UserError: files are missing, or the checks found something whose policy is "fail".
    """
    return _load(name, masked).table


def _dataset_dicts(name: str) -> list[Record]:
    """What Detectron2's catalogue gives: a list, as its own functions do."""
    return list(load_dataset(name))


def checks_of(name: str, *, masked: bool = False) -> Checks:
    """What the checks of a registered data set found; see `load_dataset` for the arguments and errors."""
    return _load(name, masked).checks


def checksum_of(name: str) -> str:
    """SHA-256 over all that training and evaluation see of a data set, wherever it lies; errors as `load_dataset`."""
    return _load(name, False).sha256


def _load(name: str, masked: bool) -> Loaded:
    if (name, masked) not in _loaded:
        if masked:
            found = _load(name, False)
            checks = copy.deepcopy(found.checks)
            loaded = Loaded(keep_masked(found.table, checks), checks, found.sha256)
        elif name in _registered:
            loaded = load(_source(name), name, _policies)
        else:
            loaded = _load_foreign(name)
        loaded.checks.finish()
        _loaded[name, masked] = loaded
    return _loaded[name, masked]


def _load_foreign(name: str) -> Loaded:
    """A data set that Detectron2 or the user's own code registered."""
    metadata, source = MetadataCatalog.get(name), foreign_source(name)
    if source is not None:
        found = metadata_of(source, _policies)
        metadata.set(**{key: value for key, value in found.items() if metadata.get(key) is None})
        return load(source, name, _policies)
    checks, records = Checks(name, _policies), given_records(name)
    classes = _required(name, "thing_classes", "its class names in the order of category_id")
    table, _ = check_table(table_of(records, classes, checks), classes, checks)
    return Loaded(table, checks, table.digest(classes))


def _required(name: str, key: str, meaning: str) -> Any:
    value = MetadataCatalog.get(name).get(key)
    if value is None:
        raise UserError(
            f"data set {name} has no {key} ({meaning}). Set it where the data set is registered:"
            f" MetadataCatalog.get({name!r}).set({key}=...)."
        )
    return value


def check_classes(cfg: CfgNode) -> int:
    """The number of classes of the data sets in DATASETS.TRAIN and TEST, which must all have the same class names.

    Raises:
        UserError: no data set, one that is not registered, or class names that differ (both sides are named), or no
            evaluator_type of a test set.
    """
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not cfg.DATASETS.TRAIN or not cfg.DATASETS.TEST:
        raise UserError("DATASETS.TRAIN and DATASETS.TEST must each name a data set.")
    for name in names:
        if name not in DatasetCatalog:
            known = ", ".join(_registered) or "none"
            raise UserError(f"data set {name} is not registered; DATASETS.REGISTER has {known}.")
    first = list(class_names(names[0]))
    for name in cfg.DATASETS.TEST:
        if MetadataCatalog.get(name).get("year") not in (2007, 2012):  # all that Detectron2's register_pascal_voc sets
            kind = _required(name, "evaluator_type", "'coco' or 'pascal_voc': the protocol of its main figure")
            if kind not in ("coco", "pascal_voc"):
                raise UserError(f"data set {name}: evaluator_type is {kind!r}; it must be 'coco' or 'pascal_voc'.")
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
    return tuple(_required(name, "thing_classes", "its class names in the order of category_id"))


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
