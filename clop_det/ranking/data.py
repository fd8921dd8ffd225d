"""From what a user names (a detection config, a folder, a COCO file) to the training images of a ranking."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from clop_det.annotations.datasets import use_datasets
from clop_det.config.library import find_config
from clop_det.config.reading import read_config
from clop_det.detection.loader import training_records
from clop_det.errors import UserError

_NAME = "ranked"


def ranking_config(data: str, overrides: Sequence[str] = ()) -> CfgNode:
    """The config of the data, whose DATASETS.TRAIN is ranked on.

    Args:
        data: a detection config (a path, or a shipped name), a folder in the layout of Pascal VOC or COCO, or a COCO
            JSON file.
        overrides: KEY VALUE words.

    Raises:
        UserError: nothing of that name, or a folder whose layout is not known.
    """
    path = Path(data)
    if path.is_dir() or path.suffix == ".json":
        entry = json.dumps([{"NAME": _NAME, **_entry(path)}])
        return read_config("", ["DATASETS.REGISTER", entry, "DATASETS.TRAIN", json.dumps([_NAME]), *overrides])
    return read_config(find_config(data), list(overrides))


def ranking_records(cfg: CfgNode) -> Sequence[dict[str, Any]]:
    """Dataset dicts of the training images; nothing of a test set is read.

    Raises:
        UserError: there is no training set, or it cannot be read.
    """
    if not cfg.DATASETS.TRAIN:
        raise UserError("DATASETS.TRAIN is empty; a ranking looks at the training images.")
    alone = training_alone(cfg)
    use_datasets(alone)
    return training_records(alone)


def training_alone(cfg: CfgNode) -> CfgNode:
    """The config without its test sets, which need not even be there."""
    own = cfg.clone()
    own.defrost()
    own.DATASETS.TEST = ()
    own.DATASETS.REGISTER = [entry for entry in cfg.DATASETS.REGISTER if entry.get("NAME") in cfg.DATASETS.TRAIN]
    own.freeze()
    return own


def _entry(path: Path) -> dict[str, str]:
    if path.is_file():
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
        return {"LAYOUT": "coco", "ROOT": str(root.absolute()), "JSON": str(path.relative_to(root))}
    here = {"ROOT": str(path.absolute())}
    if (path / "Annotations").is_dir() or (path / "VOC2007").is_dir():
        return {"LAYOUT": "voc", "SPLIT": "train", **here}
    for split in ("train", "train2017", ""):
        places = (f"annotations/instances_{split}.json", f"{split}/_annotations.coco.json")
        if any((path / place).is_file() for place in places):
            return {"LAYOUT": "coco", "SPLIT": split, **here}
    raise UserError(
        f"{path} has neither Annotations/ (Pascal VOC) nor annotations/instances_train.json (COCO). Name the COCO file"
        " itself, or a config with DATASETS.REGISTER."
    )
