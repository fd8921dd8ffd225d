"""What the detection runs of a comparison say of pictures that training and test images share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clop_det.comparison.results.reading import number, read_object

_RECORD = "annotation_checks.json"  # written by `detection.run_data`


def overlap_notes(folders: Iterable[Path]) -> list[str]:
    """Sentences: what was compared before training, what was left out, and how many runs do not say.

    Args:
        folders: of finished detection runs.
    """
    compared: dict[str, None] = {}
    left_out: dict[str, None] = {}
    images, silent, total = 0, 0, 0
    for folder in folders:
        total += 1
        found = read_object(folder / _RECORD).get("overlap")
        if not isinstance(found, dict) or not isinstance(found.get("images"), dict):
            silent += 1
            continue
        compared |= dict.fromkeys(_texts(found.get("test_sets")))
        left_out |= dict.fromkeys(_texts(found.get("left_out")))
        images = max(images, sum(int(count) for count in found["images"].values() if number(count, 0)))
    notes = []
    if compared:
        notes.append(
            f"No image of {', '.join(compared)} is among those that were learnt from ({images} at most), by content and"
            " by what the picture shows."
        )
    if left_out:
        notes.append(f"{', '.join(left_out)} may share images with the training sets: it was not compared.")
    if silent:
        notes.append(
            f"{silent} of {total} detection runs do not say whether their test images are among those learnt from."
        )
    return notes


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
