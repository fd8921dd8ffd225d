"""How many boxes of each class there are to learn from and to be tested on, and what about them deserves a word."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode
from tabulate import tabulate

from clop_det.annotations.chosen import Chosen
from clop_det.annotations.datasets import class_names, load_dataset
from clop_det.annotations.table import Table
from clop_det.detection.loader import training_records

_SHOWN = 100  # classes in a table
_TRAINING = "training"
Remark = tuple[str, str]  # what was found, and what to do


def count_boxes(records: Chosen | Table) -> Counter[int]:
    """Boxes of each class index, crowds left out."""
    parts = records.boxes() if isinstance(records, Chosen) else [records.boxes]
    categories = np.concatenate([np.zeros(0, np.int64), *(boxes.category[boxes.crowd == 0] for boxes in parts)])
    return Counter(dict(zip(*(found.tolist() for found in np.unique(categories, return_counts=True)), strict=True)))


def class_counts(cfg: CfgNode, *, train: bool = True) -> tuple[tuple[str, ...], dict[str, Counter[int]]]:
    """Class names, and for "training" (the images that the run trains on) and each test set its boxes by class."""
    counts = {_TRAINING: count_boxes(training_records(cfg))} if train else {}
    counts |= {name: count_boxes(load_dataset(name)) for name in dict.fromkeys(cfg.DATASETS.TEST)}
    return tuple(class_names(cfg.DATASETS.TEST[0])), counts


def class_table(names: Sequence[str], counts: dict[str, Counter[int]]) -> str:
    """A table of boxes by class and split; with more than 100 classes only the rarest of the first split."""
    first = next(iter(counts.values()))
    order = (
        sorted(range(len(names)), key=lambda k: (first[k], k))[:_SHOWN] if len(names) > _SHOWN else range(len(names))
    )
    rows = [(names[k], *(found[k] for found in counts.values())) for k in order]
    rows.append((f"all {len(names)}", *(sum(found.values()) for found in counts.values())))
    few = f" (the {_SHOWN} rarest of {len(names)})" if len(names) > _SHOWN else ""
    header = ("class", *counts)
    # Names stay as they are, also those that look like numbers.
    table = tabulate(rows, header, tablefmt="simple_outline", disable_numparse=[0], colalign=("left",))
    return f"boxes by class{few}\n{table}"


def class_line(names: Sequence[str], counts: dict[str, Counter[int]]) -> str:
    """The same in one line: with more than 20 classes only the rarest of the first split."""
    first = next(iter(counts.values()))
    order = sorted(range(len(names)), key=lambda k: (first[k], k))[:20] if len(names) > 20 else range(len(names))
    listed = ", ".join(f"{names[k]} {'/'.join(str(found[k]) for found in counts.values())}" for k in order)
    few = f", the 20 rarest of {len(names)}" if len(names) > 20 else ""
    return f"boxes by class ({' / '.join(counts)}{few}): {listed}"


def remarks(cfg: CfgNode, names: Sequence[str], counts: dict[str, Counter[int]]) -> list[Remark]:
    """What the class tables and the test sets show that a reader of the figures must know; see `class_counts`."""
    found = _twins(names)
    if _TRAINING in counts:
        found += _untrained(names, counts)
    for name in dict.fromkeys(cfg.DATASETS.TEST):
        found += _test_set_remarks(cfg, name)
    return found


def _twins(names: Sequence[str]) -> list[Remark]:
    """Classes whose names differ in case, blanks, hyphens and underscores alone."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups["".join(c for c in name.casefold() if not c.isspace() and c not in "-_")].append(name)
    return [
        (
            f"the classes {', '.join(map(repr, same))} differ in case or blanks alone",
            "give them one name if they are one",
        )
        for same in groups.values()
        if len(same) > 1
    ]


def _untrained(names: Sequence[str], counts: dict[str, Counter[int]]) -> list[Remark]:
    absent = [k for k in range(len(names)) if not counts[_TRAINING][k]]
    if not absent:
        return []
    tested = {name: sum(found[k] for k in absent) for name, found in counts.items() if name != _TRAINING}
    scored = ", ".join(f"{name} has {count} boxes of them" for name, count in tested.items() if count)
    listed = ", ".join(names[k] for k in absent[:20]) + (", ..." if len(absent) > 20 else "")
    return [
        (
            f"no training image has a box of {listed}" + (f"; {scored}, which count as missed" if scored else ""),
            "train on images of them, or leave the classes out (CLASSES)",
        )
    ]


def _test_set_remarks(cfg: CfgNode, name: str) -> list[Remark]:
    found: list[Remark] = []
    found_most, scored_most = cfg.TEST.DETECTIONS_PER_IMAGE, cfg.TEST.COCO_MAX_DETECTIONS
    boxes = masks = 0
    crowded: list[tuple[int, int, str]] = []  # objects, most of one class, file
    for record in load_dataset(name):
        entries = [entry for entry in record["annotations"] if not entry.get("iscrowd", 0)]
        boxes += len(entries)
        masks += sum("segmentation" in entry for entry in entries)
        of_one = max(Counter(entry["category_id"] for entry in entries).values(), default=0)
        if len(entries) > found_most >= 0 or of_one > scored_most:
            crowded.append((len(entries), of_one, record["file_name"]))
    if crowded:
        objects, of_one, file = max(crowded)
        found.append(
            (
                f"{len(crowded)} images of {name} hold more objects than are found or scored, such as {file} with"
                f" {objects} ({of_one} of one class): COCO's AP scores {scored_most} detections of a class in an image"
                f" (TEST.COCO_MAX_DETECTIONS), the detector gives {found_most} an image (TEST.DETECTIONS_PER_IMAGE)",
                f"set TEST.COCO_MAX_DETECTIONS and TEST.DETECTIONS_PER_IMAGE to {objects} or more",
            )
        )
    if cfg.MODEL.MASK_ON and masks < boxes:
        left_out = "mask AP is not computed" if not masks else "mask AP leaves these boxes out, found or not"
        found.append((f"{boxes - masks} of {boxes} boxes of {name} have no mask: {left_out}", "annotate their masks"))
    return found
