"""What a run trains and is tested on: checked before it starts, told in its log, kept in its folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from clop_det.annotations.checks import Checks
from clop_det.annotations.datasets import checks_of, checksum_of, class_names, load_dataset
from clop_det.annotations.fractions import choose, image_keys, load_split, save_split
from clop_det.annotations.images import read_image
from clop_det.annotations.overlap import check_overlap, describe
from clop_det.data.flat import check_not_flat
from clop_det.detection.class_table import class_counts, class_table, remarks
from clop_det.detection.loader import candidate_records, training_records
from clop_det.errors import UserError
from clop_det.files import read_json, write_json

SPLIT_NAME = "train_split.json"
CHECKS_NAME = "annotation_checks.json"
EVALUATION_CHECKS_NAME = "evaluation_checks.json"  # of an evaluation alone, beside evaluation.json
_FORMAT = "clop_det annotation checks 3"
_EARLIER = ("clop_det annotation checks 1", "clop_det annotation checks 2")
_log = logging.getLogger(__name__)


def data_sets(cfg: CfgNode, *, train: bool = True) -> list[str]:
    """Names of the data sets of a run, each once; without `train` those that an evaluation reads."""
    return list(dict.fromkeys((*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST)))


def run_checks(cfg: CfgNode, name: str, train: bool) -> Checks:
    """What the checks found in a data set of the run; in one to train masks on, boxes without a mask as well."""
    return checks_of(name, masked=train and cfg.MODEL.MASK_ON and name in cfg.DATASETS.TRAIN)


def log_checks(cfg: CfgNode, *, train: bool = True) -> None:
    """The summary of the checks of every data set into the log: a warning where one is worth it."""
    for name in data_sets(cfg, train=train):
        checks = run_checks(cfg, name, train)
        level = logging.WARNING if checks.worth_a_warning() else logging.INFO
        _log.log(level, "%s", checks.table())
    names, counts = class_counts(cfg, train=train)
    _log.info("%s", class_table(names, counts))
    for found, remedy in remarks(cfg, names, counts):
        _log.warning("%s (%s)", found, remedy)


def check_data(cfg: CfgNode, *, train: bool = True) -> list[str]:
    """Read and check every data set of the run.

    Returns:
        lines for the person who starts it.

    Raises:
        UserError: the checks refuse something, no image is left to train on, the images of a data set hold no picture,
            or a test image is among those learnt from.
    """
    for name in data_sets(cfg, train=train):
        run_checks(cfg, name, train)
        check_pictures(name)
    if not train:
        return []
    overlap = check_overlap(cfg)
    return [describe_training(cfg), *filter(None, [describe(overlap)]), *overlap["copies"]]


def check_pictures(name: str) -> None:
    """Refuse a data set whose images hold no picture; see `check_not_flat`."""
    records = load_dataset(name)
    files = records.images.file.tolist()
    try:
        check_not_flat(
            files, lambda index: read_image(records.head(index), "RGB"), lambda index: Path(files[index]).read_bytes()
        )
    except UserError as error:
        raise UserError(f"data set {name}: {error}") from error


def keep_data(cfg: CfgNode, *, train: bool = True, resume: bool = False) -> None:
    """Keep in OUTPUT_DIR what the checks found, a checksum of what is left, and the chosen fraction of the images.

    Args:
        train: whether the run trains; an evaluation alone has a file of its own.
        resume: whether the run goes on; then the data and the choice must be what they were.

    Raises:
        UserError: something has changed since the run began, or a file cannot be read or written.
    """
    _write_checks(cfg, train, resume)
    if train:
        _write_split(cfg, resume)


def _write_checks(cfg: CfgNode, train: bool, resume: bool) -> None:
    path = Path(cfg.OUTPUT_DIR) / (CHECKS_NAME if train else EVALUATION_CHECKS_NAME)
    found = {
        name: {
            "sha256": checksum_of(name),
            "classes": list(class_names(name)),
            **run_checks(cfg, name, train).as_dict(),
        }
        for name in data_sets(cfg, train=train)
    }
    if resume and path.is_file():
        _compare(path, found)
    overlap = {"overlap": check_overlap(cfg)} if train else {}
    write_json(path, {"format": _FORMAT, "data_sets": found, **overlap})


def _compare(path: Path, found: dict[str, dict[str, Any]]) -> None:
    """Refuse other data than those that the file at `path` was written for."""
    content = read_json(path)
    before = content.get("data_sets") if isinstance(content, dict) else None
    if not isinstance(before, dict) or content.get("format") not in (_FORMAT, *_EARLIER):
        raise UserError(
            f"{path} is no record of annotation checks (expected a JSON object with format {_FORMAT!r}). Restore it, or"
            " remove it to go on without knowing whether the data have changed."
        )
    # Earlier checksums covered other things, in another way: then what can be compared is how many there are.
    facts = ("sha256", "images", "annotations") if content["format"] == _FORMAT else ("images", "annotations")
    if content["format"] in _EARLIER:
        _log.warning("%s is of an earlier version: only the numbers of images and annotations are compared", path)
    for name, new in found.items():
        old = before.get(name, new)
        if old.get("classes", new["classes"]) != new["classes"]:
            raise UserError(
                f"data set {name} has changed since this run began: it had the classes {', '.join(old['classes'])}, and"
                f" has {', '.join(new['classes'])} now. Restore them (CLASSES), or start anew in another OUTPUT_DIR."
            )
        if any(old.get(fact) != new[fact] for fact in facts):
            raise UserError(
                f"data set {name} has changed since this run began: it had {old.get('images')} images and"
                f" {old.get('annotations')} annotations, now {new['images']} and {new['annotations']} (or others, or"
                f" other boxes, masks, flags or class names), see {path}. Restore it, or start anew in another"
                " OUTPUT_DIR."
            )


def describe_training(cfg: CfgNode) -> str:
    """How many images the run trains on, and what a fraction of them lacks."""
    candidates, records = candidate_records(cfg), training_records(cfg)
    settings, names = cfg.DATASETS, ", ".join(cfg.DATASETS.TRAIN)
    total = sum(run_checks(cfg, name, train=True).images for name in settings.TRAIN)
    empty = total - len(candidates)
    why = [f"{empty} without a box to learn from: DATALOADER.FILTER_EMPTY_ANNOTATIONS"] if empty else []
    if len(records) < len(candidates):
        source = settings.TRAIN_SPLIT_FILE or f"DATASETS.TRAIN_FRACTION {settings.TRAIN_FRACTION:g}, SEED {cfg.SEED}"
        why.append(f"chosen by {source}")
    if not why:
        return f"training on all {total} images of {names}"
    return f"training on {len(records)} of {total} images of {names} ({'; '.join(why)})"


def _write_split(cfg: CfgNode, resume: bool) -> None:
    """Freeze which images the run trains on, unless it is all of them."""
    settings, path = cfg.DATASETS, Path(cfg.OUTPUT_DIR) / SPLIT_NAME
    if settings.TRAIN_FRACTION == 1 and not settings.TRAIN_SPLIT_FILE:
        return
    keys = image_keys(candidate_records(cfg).heads())
    chosen = choose(cfg, keys)
    if resume and path.is_file():
        frozen = load_split(path, keys)
        if frozen != chosen:
            differing = keys[min(set(frozen) ^ set(chosen))]
            raise UserError(
                f"{path} is another choice of {len(frozen)} images than the {len(chosen)} that this run would train on"
                f" (they differ in {differing}). Restore what has changed, the file or that of"
                " DATASETS.TRAIN_SPLIT_FILE, or start anew in another OUTPUT_DIR."
            )
        return
    save_split(path, keys, chosen, fraction=len(chosen) / len(keys), seed=cfg.SEED)
