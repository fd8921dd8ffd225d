"""report.zip: what the figures of a report can be computed from again, without the images, the weights or a GPU.

| in it | what |
|---|---|
| `plans/`, `jobs/` | the plan, and of each job its config, record, results, splits, checks and evaluations |
| `jobs/*/detections.csv`, `truth/` | what the detectors found, and what they are judged by |
| `report/` | the tables and, where there is room, the page |
| `manifest.json` | SHA-256 of each file, which file belongs to which test, and what was left out |
| `verify.py`, `verify_voc.py`, `README.txt` | programs that need no clop_det |

The file ends in the SHA-256 of all bytes before (as the comment of the ZIP archive), so a byte that changes is found.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import clop_det
from clop_det.comparison.names import JOB_NAME, PLAN_NAME
from clop_det.comparison.results.provenance import used_runs
from clop_det.comparison.results.runs import Run, find_plans
from clop_det.comparison.results.summary import Comparison
from clop_det.detection.stored import DETECTIONS, TRUTH
from clop_det.engine.metrics import METRICS_NAME
from clop_det.engine.run_folder import CONFIG_NAME, RESULTS_NAME
from clop_det.errors import UserError
from clop_det.files import atomic_write, check_ordinary

BUNDLE_NAME, MANIFEST_NAME = "report.zip", "manifest.json"
FORMAT = "clop_det report bundle 1"
LARGEST = 5_000_000  # bytes of the whole
_MOST_BYTES = 256 << 20  # of a file that goes in
_SMALL = (CONFIG_NAME, JOB_NAME, RESULTS_NAME, METRICS_NAME)
_SPLITS = ("label_split.json", "train_split.json", "annotation_checks.json")  # where there is room
_TABLES = ("results.csv", "differences.csv", "results.md")
_PROGRAMS = {"verify.py": "standalone.py", "verify_voc.py": "standalone_voc.py"}
_README = """This archive holds what the figures of a comparison can be computed from again.

    clop-det verify report.zip      checks every byte, computes every AP again, and rebuilds both tables
    python verify.py report.zip     computes every AP of boxes by COCO's rule again; it needs pycocotools, no clop_det
    python verify_voc.py report.zip does so by VOC's rules; it needs verify.py beside it

jobs/NAME/ holds the config, record and results of each job; jobs/NAME/detections.csv what a detector found on the test
set. truth/ holds the boxes that the detections are judged by, in COCO's annotation layout. manifest.json names the
files of each test, their SHA-256 and those of the weights, and says what was left out. A file that several jobs have in
common is in the archive once; "same" in manifest.json names the other places.
"""


@dataclass
class _Content:
    """The files of a bundle as they are gathered: each content once."""

    files: dict[str, bytes] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)  # path -> path of the file with this content
    size: int = 0  # of the archive, about

    def add(self, path: str, content: bytes, room: int | None = None) -> bool:
        """Add a file; False if it would take the archive beyond `room`."""
        if path in self.files or path in self.same:
            return True
        twin = next((name for name, other in self.files.items() if other == content), None)
        if twin is not None:
            self.same[path] = twin
            return True
        size = (
            len(zlib.compress(content, 9)) + 2 * len(path.encode()) + 240
        )  # two headers, and its line in the manifest
        if room is not None and self.size + size > room:
            return False
        self.files[path], self.size = content, self.size + size
        return True

    def place_of(self, path: str) -> str:
        return self.same.get(path, path)


def write_bundle(comparison: Comparison, report: Path) -> Path:
    """Write report.zip beside the tables and the page in `report`, of at most 5 MB.

    Detections go in seed by seed while there is room, then splits, then the page. `manifest.json` says what was left
    out, and its SHA-256: with the run folders at hand that can be checked, too.

    Args:
        comparison: what the report shows.
        report: folder of the report, which has been written.

    Raises:
        UserError: it cannot be written.
    """
    content = _Content()
    left_out: dict[str, str] = {}
    weights: dict[str, str] = {}
    names = _names(used_runs(comparison))
    for place, (folder, _) in enumerate(find_plans(comparison.sources)):
        _take(content, folder / PLAN_NAME, f"plans/{place}/{PLAN_NAME}")
    for run, name in names.items():
        for file in _SMALL:
            _take(content, run / file, f"{name}/{file}")
        if (noted := _read(run / "model_final.pth.sha256")) is not None:
            weights[name] = noted.decode(errors="replace")[:64]
    for file in _TABLES:
        _take(content, report / file, f"report/{file}")
    for program, source in _PROGRAMS.items():
        content.add(program, Path(__file__).with_name(source).read_bytes())
    content.add("README.txt", _README.encode())
    tests, seeds = [], {row.folders["detect"]: row.seed for row in comparison.rows if "detect" in row.folders}
    for run in sorted((run for run in seeds if run in names), key=lambda run: seeds[run]):
        for truth, found in _tests_of(run):
            test = _add_test(content, left_out, names[run], truth, found)
            tests += [test] if test else []
    for run, name in names.items():
        for file in _SPLITS:
            if not _take(content, run / file, f"{name}/{file}", LARGEST):
                left_out[f"{name}/{file}"] = hashlib.sha256(_read(run / file) or b"").hexdigest()
    content.add("report/report.html", _read(report / "report.html") or b"", LARGEST)
    manifest = {
        "format": FORMAT,
        "clop_det": clop_det.__version__,
        **{name: getattr(comparison, name) for name in ("name", "baseline", "metric")},
        "tests": tests,
        "without": sorted({names[run] for run in seeds if run in names} - {test["run"] for test in tests}),
        "left_out": left_out,
        "weights": weights,
        "same": content.same,
        "files": {path: hashlib.sha256(file).hexdigest() for path, file in content.files.items()},
    }
    with atomic_write(report / BUNDLE_NAME) as target:
        target.write(sealed({**content.files, MANIFEST_NAME: json.dumps(manifest, indent=1).encode()}))
    return report / BUNDLE_NAME


def sealed(files: Mapping[str, bytes]) -> bytes:
    """A ZIP archive with these files, the same bytes each time, whose last 64 are the SHA-256 of those before."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path, content in files.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
        archive.comment = b"0" * 64
    body = buffer.getvalue()[:-64]
    return body + hashlib.sha256(body).hexdigest().encode()


def _names(runs: Iterable[Run]) -> dict[Path, str]:
    """Run folder -> its folder in the bundle; folders of one name in several places stay apart."""
    found: dict[Path, str] = {}
    for run in runs:
        name = f"jobs/{run.folder.name}"
        if run.kind != "inspect":
            found[run.folder] = name if name not in found.values() else f"jobs/{len(found)}/{run.folder.name}"
    return {folder: name for folder, name in found.items() if name.isprintable()}


def _tests_of(run: Path) -> list[tuple[Path, Path]]:
    """(ground truth, detections) of each test set of which a run has kept both."""
    pairs = []
    for truth in sorted(run.glob(f"{TRUTH}*.json")):
        found = truth.with_name(f"{DETECTIONS}{truth.stem.removeprefix(TRUTH)}.csv")
        if found.is_file() and (run / RESULTS_NAME).is_file():
            pairs.append((truth, found))
    return pairs


def _add_test(
    content: _Content, left_out: dict[str, str], name: str, truth: Path, found: Path
) -> dict[str, Any] | None:
    """What the manifest says of a test: which files belong to it. None if they cannot be read.

    A file that there is no room for goes into `left_out`, under its place in the run folders, with its SHA-256.
    """
    judged, detections = _read(truth), _read(found)
    if judged is None or detections is None:
        return None
    places = []
    for file, place, own in (
        (judged, f"truth/{hashlib.sha256(judged).hexdigest()[:16]}.json", f"{name}/{truth.name}"),
        (detections, f"{name}/{found.name}", f"{name}/{found.name}"),
    ):
        if content.add(place, file, LARGEST):
            places.append(content.place_of(place))
        else:
            places.append(own)
            left_out[own] = hashlib.sha256(file).hexdigest()
    results = content.place_of(f"{name}/{RESULTS_NAME}")
    return {"run": name, "truth": places[0], "detections": places[1], "results": results}


def _take(content: _Content, path: Path, name: str, room: int | None = None) -> bool:
    """Add a file if it can be read; False if there is no room for it."""
    found = _read(path)
    if found is None:
        return True
    if path.name == METRICS_NAME:  # the losses of each step would fill the archive
        found = b"".join(line for line in found.splitlines(keepends=True) if b"/" in line)
    return content.add(name, found, room)


def _read(path: Path) -> bytes | None:
    """A file's content; None if there is none that can be read."""
    try:
        check_ordinary(path)
        return path.read_bytes() if os.path.getsize(path) <= _MOST_BYTES else None
    except (OSError, UserError):
        return None
