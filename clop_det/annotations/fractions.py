"""A fraction of the annotated images to train on: drawn from the seed, frozen to a file, nested.

As papers on semi-supervised detection do it: 1, 2, 5, 10 % of the training images with all their boxes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from clop_det.annotations.sources import read_lines
from clop_det.engine.seeding import generator
from clop_det.errors import UserError
from clop_det.files import StrPath, read_json, write_json

_FORMAT = "clop_det training split 1"


def image_keys(records: Iterable[dict[str, Any]]) -> list[str]:
    """A name for each record: data set and image id; unique where each data set is named once."""
    return [f"{record['data_set']}/{record.get('image_id', record['file_name'])}" for record in records]


def draw(count: int, fraction: float, seed: int) -> list[int]:
    """Sorted indices of `fraction` of `count` images, rounded, at least one.

    With one seed and one `count` the larger of two draws contains the smaller.
    """
    order = torch.randperm(count, generator=generator(seed, "training split"))
    return sorted(order[: max(1, int(fraction * count + 0.5))].tolist())


def choose(cfg: CfgNode, keys: Sequence[str]) -> list[int]:
    """Sorted indices of the images to train on: of DATASETS.TRAIN_SPLIT_FILE, or drawn as TRAIN_FRACTION says.

    Raises:
        UserError: both are given and contradict one another, a fraction outside (0, 1], a file that does not fit, or
            one key for several images.
    """
    fraction, path = float(cfg.DATASETS.TRAIN_FRACTION), cfg.DATASETS.TRAIN_SPLIT_FILE
    if path or fraction != 1:
        _check_unique(keys, cfg.DATASETS.TRAIN)
    if not path:
        return draw(len(keys), fraction, cfg.SEED)
    chosen = load_split(path, keys)
    if fraction != 1 and len(chosen) != len(draw(len(keys), fraction, cfg.SEED)):
        raise UserError(
            f"DATASETS.TRAIN_FRACTION is {fraction:g}, but DATASETS.TRAIN_SPLIT_FILE {path} chooses {len(chosen)} of"
            f" {len(keys)} images; give one of the two (TRAIN_FRACTION 1.0 takes the file as it is)."
        )
    return chosen


def _check_unique(keys: Sequence[str], data_sets: Sequence[str]) -> None:
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice is not None:
        raise UserError(
            f"a fraction of the training images needs each of them once, but {twice} is there {keys.count(twice)} times"
            f" (DATASETS.TRAIN: {', '.join(data_sets)}). Name each data set once, and give its images ids of their own."
        )


def save_split(path: StrPath, keys: Sequence[str], indices: Sequence[int], *, fraction: float, seed: int) -> None:
    """Freeze a choice to a JSON file: the chosen images, and a checksum over all there were to choose from."""
    content = {
        "format": _FORMAT,
        "fraction": fraction,
        "seed": seed,
        "images": len(keys),
        "images_sha256": _fingerprint(keys),
        "chosen_images": len(indices),
        "chosen": [keys[i] for i in indices],
    }
    write_json(path, content)


def load_split(path: StrPath, keys: Sequence[str]) -> list[int]:
    """Sorted indices of the images in a file of `save_split` (.json), or in a list with one image a line.

    A line names an image by its id, alone or as "data set/id".

    Raises:
        UserError: not such a file, no image, an image that is not there or fits several, or (JSON) other images to
            choose from than when it was made.
    """
    if Path(path).suffix.lower() != ".json":
        return _find(path, read_lines(Path(path), "DATASETS.TRAIN_SPLIT_FILE"), keys)
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != _FORMAT or not isinstance(content.get("chosen"), list):
        raise UserError(f"{path} is no training split (expected a JSON object with format {_FORMAT!r}).")
    indices = _find(path, content["chosen"], keys)
    if content.get("images_sha256") != _fingerprint(keys):
        raise UserError(
            f"training split {path} was made for another list of {content.get('images')} images than the {len(keys)} of"
            " DATASETS.TRAIN; use the data sets that it was made for, or draw anew (TRAIN_SPLIT_FILE '')."
        )
    return indices


def _find(path: StrPath, wanted: Sequence[Any], keys: Sequence[str]) -> list[int]:
    places: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        for name in (key, key.split("/", 1)[1]):
            places.setdefault(name, []).append(index)
    found = set()
    for name in wanted:
        fitting = places.get(str(name), [])
        if len(fitting) != 1:
            fault = f"fits {len(fitting)} images" if fitting else "is none"
            raise UserError(
                f"training split {path} lists {name!r}, which {fault} of the {len(keys)} training images (such as"
                f" {keys[0]})."
            )
        found.add(fitting[0])
    if not found:
        raise UserError(f"training split {path} lists no image.")
    return sorted(found)


def _fingerprint(keys: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()
