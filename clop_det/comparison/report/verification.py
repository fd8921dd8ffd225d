"""Checks a report.zip: no byte has changed, the detections give every AP, and the run folders give both tables."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import clop_det
from clop_det.comparison.report import csv_files
from clop_det.comparison.report.bundle import FORMAT, MANIFEST_NAME
from clop_det.comparison.results.reading import number
from clop_det.comparison.results.summary import Comparison, read_comparison
from clop_det.detection.evaluation import flatten, score, split_figure
from clop_det.detection.stored import read_tested
from clop_det.engine.run_folder import RESULTS_NAME
from clop_det.errors import UserError
from clop_det.figures import BOX, FAMILIES
from clop_det.files import check_ordinary

TOLERANCE = 1e-9
_MOST_BYTES, _MOST_FILES, _MOST_UNPACKED = 256 << 20, 50_000, 1 << 30


@dataclass
class Verified:
    """What was found.

    Attributes:
        digest: SHA-256 of the archive, to compare with the one that its maker names.
        tests: run -> number of figures that were computed again.
        largest: difference between a figure and the one computed again.
        faults: sentences; none: everything holds.
        notes: what could not be checked, and why.
    """

    digest: str = ""
    tests: dict[str, int] = field(default_factory=dict)
    largest: float = 0.0
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify_bundle(path: Path, runs: Path | None = None) -> Verified:
    """Check a report.zip; nothing in it is run or unpacked outside a temporary folder.

    Args:
        path: the archive.
        runs: folder of the comparison, from which the files that were left out of the archive are read.

    Raises:
        UserError: the file cannot be read, or is no such archive.
    """
    data = _bytes(path)
    found = Verified(hashlib.sha256(data).hexdigest())
    if data[-64:] != hashlib.sha256(data[:-64]).hexdigest().encode():
        found.faults.append(f"{path.name} has changed since it was written, or is no report.zip.")
    files, manifest = _opened(path, data, found)
    if found.faults:
        return found  # figures of other bytes than those that were written prove nothing
    files |= {str(other): files[str(name)] for other, name in _object(manifest, "same").items() if str(name) in files}
    left_out, tests = _object(manifest, "left_out"), _list(manifest, "tests")
    if runs is not None:
        files |= _left_out(left_out, runs, found)
    missing = sorted(name for name in left_out if name not in files)
    for test in tests:
        if not (isinstance(test, dict) and {str(test.get("truth")), str(test.get("detections"))} & {*missing}):
            _check_test(test, files, found)
    _check_tables(files, manifest, found)
    if missing:
        found.notes.append(
            f"{len(missing)} files were left out, for the archive's size: {_some(missing)}. --runs names their folder."
        )
    if without := _tested_runs(files) - {str(test.get("run")) for test in tests if isinstance(test, dict)}:
        found.notes.append(f"{len(without)} runs have no detections in the archive: {_some(without)}.")
    return found


def _bytes(path: Path) -> bytes:
    try:
        check_ordinary(path)
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} is larger than {_MOST_BYTES >> 20} MiB; a report.zip has 5 MB. Give that file.")
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read {path}: {error.strerror or error}. Give the report.zip of a comparison."
        ) from error


def _opened(path: Path, data: bytes, found: Verified) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files of the archive and its manifest; notes those that have changed, are missing or do not belong to it."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.infolist()
        if len(entries) > _MOST_FILES or sum(entry.file_size for entry in entries) > _MOST_UNPACKED:
            raise UserError(f"{path} would unpack to more than a report.zip holds; it is not read.")
        files = {entry.filename: content for entry in entries if (content := _unpacked(archive, entry)) is not None}
        manifest = json.loads(files[MANIFEST_NAME])
        expected = _object(manifest, "files")
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, NotImplementedError, EOFError) as error:
        if found.faults and data[:2] == b"PK":
            return {}, {}  # so damaged that it cannot be said where
        raise UserError(f"{path} is no report.zip of a comparison ({type(error).__name__}: {error}).") from error
    written = manifest.get("format") if isinstance(manifest, dict) else None
    if written != FORMAT:
        raise UserError(f"{path} has the format {written!r}, not {FORMAT!r}: another version wrote it.")
    for name, digest in expected.items():
        if name not in files:
            found.faults.append(f"{name} is missing, or damaged.")
        elif hashlib.sha256(files[name]).hexdigest() != digest:
            found.faults.append(f"{name} has changed.")
    found.faults += [
        f"{name} does not belong to the archive." for name in files if name not in {*expected, MANIFEST_NAME}
    ]
    return files, manifest


def _left_out(names: Mapping[str, Any], runs: Path, found: Verified) -> dict[str, bytes]:
    """The files that were left out, from the run folders; notes those that are others than they were."""
    files = {}
    for name, digest in names.items():
        path = runs / name
        if _stays_inside(name) and os.path.isfile(path):  # a name that no file system takes is none
            content = _bytes(path)
            if hashlib.sha256(content).hexdigest() == digest:
                files[name] = content
            else:
                found.faults.append(f"{path} has changed.")
    return files


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | None:
    try:
        with archive.open(entry) as file:
            content = file.read(entry.file_size + 1)
        return content if len(content) == entry.file_size else None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError):
        return None


def _check_test(test: Any, files: Mapping[str, bytes], found: Verified) -> None:
    """Compute the figures of one run on one test set again."""
    name = str(test.get("run")) if isinstance(test, dict) else "a test"
    try:
        tested = read_tested(files[test["truth"]], files[test["detections"]])
        recorded = json.loads(files[f"{name}/{RESULTS_NAME}"])["metrics"]  # which the tables are made of, too
        known = {key: value for key, value in recorded.items() if _is_of(key, tested.prefix) and number(value)}
        evaluation = score(tested.truth, tested.found, tested.headline, most=tested.most)
    except (UserError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        found.faults.append(f"{name}: its files cannot be read ({error}).")
        return
    again = flatten(evaluation.families, tested.prefix)
    found.faults += [f"{name}: no detections give {key}." for key in known if key not in again]
    found.faults += [f"{name}: {key} is not among its figures." for key in again if key not in known]
    for key in again.keys() & known.keys():
        gap = abs(again[key] - known[key])
        found.largest = max(found.largest, gap)
        if gap > TOLERANCE or math.isnan(gap):
            found.faults.append(f"{name}: {key} is {known[key]:.6f}, but its detections give {again[key]:.6f}.")
    found.tests[f"{name} {tested.data_set}"] = len(again)


def _tested_runs(files: Mapping[str, bytes]) -> set[str]:
    """The runs in the archive that have an average precision."""
    places = (path.rpartition("/") for path in files)
    runs = {run for run, _, name in places if name == RESULTS_NAME and run.startswith("jobs/")}
    return {run for run in runs if any(_data_set(key) is not None for key in _metrics(files[f"{run}/{RESULTS_NAME}"]))}


def _metrics(results: bytes) -> dict[str, Any]:
    try:
        return _object(json.loads(results), "metrics")
    except (ValueError, RecursionError):
        return {}


def _is_of(key: str, prefix: str) -> bool:
    """Whether a figure is an average precision on the test set whose figures begin with `prefix`."""
    return _data_set(key) == prefix.rstrip("/")


def _data_set(key: str) -> str | None:
    """The test set of a figure that is an average precision, "" for the only one; None: it is another figure."""
    try:
        data_set, family, _ = split_figure(key)
    except ValueError:
        return None
    return data_set if family in (BOX, *FAMILIES) else None


def _check_tables(files: Mapping[str, bytes], manifest: Mapping[str, Any], found: Verified) -> None:
    """Rebuild the tables from the run folders in the archive."""
    if manifest.get("clop_det") != clop_det.__version__:
        found.notes.append(
            f"The tables are not compared: clop_det {manifest.get('clop_det')} wrote them, not {clop_det.__version__}."
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            for name, content in files.items():
                if name.startswith(("plans/", "jobs/")) and _stays_inside(name):
                    path = Path(folder, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
            comparison = _rebuilt(Path(folder), str(manifest["baseline"]), str(manifest["metric"]))
            tables = {
                "report/results.csv": csv_files.results_csv(comparison),
                "report/differences.csv": csv_files.differences_csv(comparison),
            }
        except (UserError, KeyError, OSError) as error:
            found.faults.append(f"the run folders in the archive give no tables ({error}).")
            return
    for name, text in tables.items():
        # Runs of several places may stand in another order.
        if sorted(text.splitlines()) != sorted(files.get(name, b"").decode(errors="replace").splitlines()):
            found.faults.append(f"{name} is not what the run folders give.")


def _rebuilt(folder: Path, baseline: str, metric: str) -> Comparison:
    try:
        return read_comparison([folder], baseline, metric)
    except UserError:  # a plan may name what no run has; then the report only remarked on it
        return read_comparison([folder])


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return name.isprintable() and "\\" not in name and ".." not in path.parts and not path.is_absolute()


def _object(content: Any, key: str) -> dict[str, Any]:
    value = content.get(key) if isinstance(content, dict) else None
    return value if isinstance(value, dict) else {}


def _list(content: Mapping[str, Any], key: str) -> list[Any]:
    value = content.get(key)
    return value if isinstance(value, list) else []


def _some(names: Any, limit: int = 4) -> str:
    ordered = sorted(map(str, names))
    return ", ".join(ordered[:limit]) + (f" and {len(ordered) - limit} more" if len(ordered) > limit else "")
