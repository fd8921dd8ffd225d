"""What a run trains and is tested on: checked before it starts, told in its log, kept in its folder."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from clop_det.detection.datasets import checks_of, load_dataset
from clop_det.errors import UserError
from clop_det.files import read_json, write_json

CHECKS_NAME = "annotation_checks.json"
EVALUATION_CHECKS_NAME = "evaluation_checks.json"  # of an evaluation alone, beside evaluation.json
_FORMAT = "clop_det annotation checks 1"
_log = logging.getLogger(__name__)


def data_sets(cfg: CfgNode, *, train: bool = True) -> list[str]:
    """Names of the data sets of a run, each once; without `train` those that an evaluation reads."""
    return list(dict.fromkeys((*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST)))


def log_checks(cfg: CfgNode, *, train: bool = True) -> None:
    """The summary of the checks of every data set into the log: a warning if something was dropped."""
    for name in data_sets(cfg, train=train):
        checks = checks_of(name)
        level = logging.WARNING if checks.dropped("image") + checks.dropped("annotation") else logging.INFO
        _log.log(level, "%s", checks.table())


def write_checks(cfg: CfgNode, *, train: bool = True, resume: bool = False) -> Path:
    """Keep in OUTPUT_DIR what was found, and a checksum of what is left.

    Args:
        train: whether the run trains; an evaluation alone has a file of its own.
        resume: whether the run goes on; then the data must be what they were.

    Raises:
        UserError: a data set has changed since the run began, or a file cannot be read or written.
    """
    path = Path(cfg.OUTPUT_DIR) / (CHECKS_NAME if train else EVALUATION_CHECKS_NAME)
    found = {name: {"sha256": _digest(name), **checks_of(name).as_dict()} for name in data_sets(cfg, train=train)}
    if resume and path.is_file():
        before = read_json(path).get("data_sets", {})
        changed = [name for name, entry in found.items() if before.get(name, entry)["sha256"] != entry["sha256"]]
        if changed:
            old, new = before[changed[0]], found[changed[0]]
            raise UserError(
                f"data set {changed[0]} has changed since this run began: it had {old['images']} images and"
                f" {old['annotations']} annotations, now {new['images']} and {new['annotations']} (or others, or other"
                f" boxes), see {path}. Restore it, or start anew in another OUTPUT_DIR."
            )
    write_json(path, {"format": _FORMAT, "data_sets": found})
    return path


def _digest(name: str) -> str:
    """SHA-256 over what training and evaluation see of a data set, wherever it lies."""
    digest = hashlib.sha256()
    for record in load_dataset(name):
        boxes = [(entry["category_id"], *map(float, entry["bbox"])) for entry in record["annotations"]]
        digest.update(f"{_facts(record)} {boxes}\n".encode())
    return digest.hexdigest()


def _facts(record: dict[str, Any]) -> tuple[Any, ...]:
    return Path(record["file_name"]).name, record.get("image_id"), record["height"], record["width"]
