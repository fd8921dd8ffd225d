"""What the detection runs of a comparison say of pictures that training and test images share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from clop_det.comparison.results.reading import number, read_object

_PRETRAINING = "CLASSIFICATION.ROOT"  # with this begin the names of the images that pretraining sees
_RECORD = "annotation_checks.json"  # written by `detection.run_data`


def overlap_notes(folders: Iterable[Path], boundary: Mapping[str, Any] | None = None) -> list[str]:
    """Sentences: what was compared before training, what was left out, and how many runs do not say.

    Args:
        folders: of finished detection runs.
        boundary: {"images": pretraining images that the comparison compared itself, "given": initialisations whose
            training images it does not know}; empty or None: it compared nothing.
    """
    compared: dict[str, None] = {}
    left_out: dict[str, None] = {}
    images, silent, total, without = dict[str, int](), 0, 0, 0
    for folder in folders:
        total += 1
        found = read_object(folder / _RECORD).get("overlap")
        if not isinstance(found, dict) or not isinstance(found.get("images"), dict):
            silent += 1
            continue
        compared |= dict.fromkeys(_texts(found.get("test_sets")))
        left_out |= dict.fromkeys(_texts(found.get("left_out")))
        counts = {str(name): int(count) for name, count in found["images"].items() if number(count, 0)}
        images = {name: max(count, images.get(name, 0)) for name, count in {**images, **counts}.items()}
        without += bool(counts) and not any(name.startswith(_PRETRAINING) for name in counts)
    images |= {str(name): int(count) for name, count in (boundary or {"images": {}})["images"].items()}
    notes = []
    if compared:
        notes.append(
            f"No image of {', '.join(compared)} is among {_named(images)}, by content and by what the picture shows."
        )
    if boundary:
        given = boundary["given"]
        if given:
            notes.append(f"Which images the given weights of {', '.join(given)} were trained on is not known here.")
    elif without:
        notes.append(
            f"{without} of {total} detection runs did not compare their test images with those of pretraining: their"
            " configs name none (CLASSIFICATION.ROOT)."
        )
    if left_out:
        notes.append(f"{', '.join(left_out)} may share images with the training sets: it was not compared.")
    if silent:
        notes.append(
            f"{silent} of {total} detection runs do not say whether their test images are among those learnt from."
        )
    return notes


def _named(images: Mapping[str, int]) -> str:
    """ "the training images (40 of train) and the pretraining images (2 of crops)"."""
    parts = []
    for what, mine in (("training", False), ("pretraining", True)):
        own = {name: count for name, count in images.items() if name.startswith(_PRETRAINING) == mine}
        shown = ", ".join(f"{count} of {name.removeprefix(_PRETRAINING).strip()}" for name, count in own.items())
        parts += [f"the {what} images ({shown})"] if own else []
    return " and ".join(parts) or "the images that were learnt from"


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
