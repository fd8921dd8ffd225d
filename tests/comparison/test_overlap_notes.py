"""The report says whether test images were compared with those learnt from; what a folder holds may be anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from clop_det.comparison.results.overlap import overlap_notes


def folder(place: Path, name: str, content: Any) -> Path:
    place = place / name
    place.mkdir()
    (place / "annotation_checks.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return place


def test_what_was_compared_left_out_and_not_said(tmp_path: Path) -> None:
    images = {"train": 40, "CLASSIFICATION.ROOT crops": 2}
    found = {"test_sets": ["voc"], "left_out": ["own"], "images": images}
    notes = overlap_notes([folder(tmp_path, "a", {"overlap": found}), folder(tmp_path, "b", {"overlap": found})])
    assert notes == [
        "No image of voc is among the training images (40 of train) and the pretraining images (2 of crops), by content"
        " and by what the picture shows.",
        "own may share images with the training sets: it was not compared.",
    ]


def test_runs_without_a_sound_record_are_counted(tmp_path: Path) -> None:
    odd: list[Any] = ["{", [], {}, {"overlap": 3}, {"overlap": {"images": []}}]
    folders = [folder(tmp_path, str(i), content) for i, content in enumerate(odd)]
    assert overlap_notes([*folders, tmp_path / "gone"]) == [
        "6 of 6 detection runs do not say whether their test images are among those learnt from."
    ]
    odd_lists = {"test_sets": [3, "voc"], "left_out": "voc", "images": {"train": "many", "more": 5}}
    said, missing = overlap_notes([folder(tmp_path, "odd", {"overlap": odd_lists})])
    assert said.startswith("No image of voc is among the training images (5 of more)")
    assert missing.startswith("1 of 1 detection runs did not compare their test images with those of pretraining")
    assert overlap_notes([]) == []
