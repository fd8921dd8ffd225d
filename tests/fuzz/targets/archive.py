"""The files of a report's archive: what a run keeps of its detections, the manifest, and the archive itself."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np

import clop_det
from clop_det.comparison.report.bundle import FORMAT, sealed
from clop_det.comparison.report.verification import verify_bundle
from clop_det.detection.ground_truth import Detections, GroundTruth
from clop_det.detection.stored import Tested, write_tested
from tests.fuzz.mutations import mutated_bytes, mutated_json
from tests.fuzz.targets.target import Target

KEPT: list[tuple[str, Callable[[random.Random, bytes], bytes]]] = [
    ("ground_truth.json", mutated_json),
    ("detections.csv", mutated_bytes),
]


def keep(run: Path) -> None:
    """Write what a run keeps: three boxes in two images, one of them difficult, and two detections."""
    images, classes = np.array([0, 0, 1]), np.array([0, 1, 1])
    box = np.array([[1.0, 2, 20, 20], [5, 5, 30, 25], [0, 0, 9, 9]])
    flags = np.array([False, False, True]), np.zeros(3, dtype=bool)
    truth = GroundTruth(images, classes, box, *flags, np.full(3, 90.0), [None] * 3, [(30, 40), (20, 20)], ("a", "b"))
    found = Detections(images[:2], classes[:2], box[:2] + 0.5, np.array([0.75, 0.5]))
    write_tested(run, Tested("t", "", "voc12", 100, ["a.png", "b.png"], truth, found))


def read_archive(folder: Path) -> None:
    """Seal the files of the folder as an archive and verify it; verify its report.zip as it is."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".zip"}
    target = folder / "sealed.zip"
    target.write_bytes(sealed(files))
    verify_bundle(target)
    verify_bundle(folder / "report.zip")


def prepare_bundle(folder: Path) -> Target:
    """The files of an archive with one run."""
    keep(folder)
    (folder / "results.json").write_text(json.dumps({"metrics": {"coco/AP": 5.0, "bbox/AP-a": 1.0}}))
    test = {"run": "r", "truth": "ground_truth.json", "detections": "detections.csv", "results": "results.json"}
    content = {
        "format": FORMAT,
        "clop_det": clop_det.__version__,
        "baseline": "random",
        "metric": "AP",
        "tests": [test],
    }
    content |= {"without": [], "left_out": {}, "weights": {}, "same": {"a": "results.json"}, "files": {}}
    (folder / "manifest.json").write_text(json.dumps(content))
    (folder / "report.zip").write_bytes(sealed({"manifest.json": json.dumps(content).encode()}))
    names = [("manifest.json", mutated_json), ("results.json", mutated_json), ("report.zip", mutated_bytes)]
    return Target([*KEPT, *names], read_archive)
