"""The archive of a report: anybody can compute its figures again, and whatever changes is found."""

from __future__ import annotations

import ast
import dataclasses
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import clop_det
from clop_det.commands.main import main
from clop_det.comparison.experiment import report
from clop_det.comparison.report import bundle
from clop_det.comparison.report.bundle import sealed
from clop_det.comparison.report.verification import Verified, verify_bundle
from clop_det.detection.evaluation import flatten, score
from clop_det.detection.stored import write_tested
from clop_det.errors import UserError
from tests.comparison.kept import a_test, kept_comparison, kept_run
from tests.comparison.workplace import REPORT, Workplace


@pytest.fixture(scope="module", params=[False, True], ids=["boxes", "masks"])
def archive(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    folder = kept_comparison(tmp_path_factory.mktemp("kept"), request.param)
    report([folder])
    return folder / REPORT / "report.zip"


def rewritten(archive: Path, target: Path, name: str, content: bytes, hashes: bool = True) -> Verified:
    """What is found after somebody has changed a file, and covered the traces if `hashes`."""
    with zipfile.ZipFile(archive) as old:
        files = {entry: old.read(entry) for entry in old.namelist()}
    manifest = json.loads(files["manifest.json"])
    files[name] = content
    if hashes:
        manifest["files"][name] = bundle.hashlib.sha256(content).hexdigest()
        files["manifest.json"] = json.dumps(manifest).encode()
    target.write_bytes(sealed(files))
    return verify_bundle(target)


def code_lines(program: Path) -> set[int]:
    """Numbers of the lines that hold code: no empty line, comment or docstring."""
    tree = ast.parse(program.read_text())
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)]
    written = {place for place, line in enumerate(program.read_text().splitlines(), 1) if line.strip()}
    return written - {place for node in texts for place in range(node.lineno, (node.end_lineno or 0) + 1)}


def test_every_figure_is_computed_again(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = verify_bundle(archive)
    assert found.faults == found.notes == []
    assert len(found.tests) == 4
    assert found.largest == 0
    assert archive.stat().st_size < bundle.LARGEST
    assert main(["verify", str(archive)]) == 0
    shown = capsys.readouterr().out
    assert f"holds: {archive}" in shown
    assert found.digest in shown


def test_the_program_in_the_archive_does_the_same_without_this_package(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as files:
        files.extractall(tmp_path, ["verify.py", "verify_voc.py"])
        masks = b'"segmentation"' in files.read(next(n for n in files.namelist() if n.startswith("truth/")))
    blocked = "import sys; sys.modules['clop_det'] = None; import runpy; sys.argv = sys.argv[1:];"
    figures = []
    for program in ("verify.py", "verify_voc.py"):
        words = [sys.executable, "-c", f"{blocked} runpy.run_path('{program}', run_name='__main__')", "x", str(archive)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        *said, last = done.stdout.splitlines()
        assert len(said) == 4
        assert last == "left out of the archive: nothing"
        figures.append(int(said[-1].split(": ")[1].split()[0]))
        assert all(float(line.rsplit(" ", 1)[1]) < 1e-9 for line in said)
        assert len(code_lines(tmp_path / program)) <= 40  # imports included
    changed = bytearray(archive.read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / "changed.zip").write_bytes(changed)
    words = [sys.executable, str(tmp_path / "verify.py"), str(tmp_path / "changed.zip")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has changed since it was written" in done.stderr
    assert sum(figures) == sum(verify_bundle(archive).tests.values()) - (4 * 8 if masks else 0)  # of masks: none


def test_any_changed_byte_is_found(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    rng, target = np.random.default_rng(0), tmp_path / "report.zip"
    for place in {0, len(data) - 1, len(data) - 65, *rng.integers(0, len(data), 40).tolist()}:
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        target.write_bytes(changed)
        assert verify_bundle(target).faults, place
    target.write_bytes(data[:-100])
    assert "has changed" in verify_bundle(target).faults[0]


def test_what_was_changed_with_its_traces_covered_is_found(archive: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.zip"
    with zipfile.ZipFile(archive) as files:
        name = "jobs/detect-clop-1/detections.csv"
        found = files.read(name).decode().splitlines()
        results = json.loads(files.read("jobs/detect-clop-1/results.json"))
        table = files.read("report/results.csv").decode()
        differences = files.read("report/differences.csv").decode()
    assert "report.zip has changed" not in str(rewritten(archive, target, name, b"x", hashes=False).faults)
    assert f"{name} has changed." in rewritten(archive, target, name, b"x", hashes=False).faults
    fewer = "\n".join([found[0], *found[2:]]) + "\n"
    assert "but its detections give" in rewritten(archive, target, name, fewer.encode()).faults[0]
    results["metrics"]["coco/AP"] += 2e-9
    faults = rewritten(archive, target, "jobs/detect-clop-1/results.json", json.dumps(results).encode()).faults
    assert any("coco/AP" in fault for fault in faults)
    results["metrics"]["coco/AP-unseen"] = 1.0
    faults = rewritten(archive, target, "jobs/detect-clop-1/results.json", json.dumps(results).encode()).faults
    assert any("no detections give coco/AP-unseen" in fault for fault in faults)
    line = table.splitlines()[-1]
    better = table.replace(line, line.replace(line.split(",")[3], "99.9"))
    for place, text in (("results", better), ("differences", differences.replace("-", "", 1) + " ")):
        faults = rewritten(archive, target, f"report/{place}.csv", text.encode()).faults
        assert faults == [f"report/{place}.csv is not what the run folders give."]
    assert rewritten(archive, target, "more.txt", b"", hashes=False).faults == [
        "more.txt does not belong to the archive."
    ]


@pytest.mark.parametrize(
    "line", ["0,0,1,1,nan,9,0.5,0", "99,0,1,1,9,9,0.5,0", "0,77,1,1,9,9,0.5,0", "0,0,1,1,9,9,2,0", "a"]
)
def test_detections_of_another_form_are_a_fault_and_no_crash(archive: Path, tmp_path: Path, line: str) -> None:
    with zipfile.ZipFile(archive) as files:
        found = files.read("jobs/detect-clop-0/detections.csv").decode()
    text = (found + (f"{line},x\n" if "mask" in found[:80] else f"{line}\n")).encode()
    faults = rewritten(archive, tmp_path / "report.zip", "jobs/detect-clop-0/detections.csv", text).faults
    assert any("its files cannot be read" in fault for fault in faults)


def test_the_report_can_be_rebuilt_from_the_archive(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as files:
        files.extractall(tmp_path / "unpacked")
    report([tmp_path / "unpacked"], tmp_path / "again")
    for name in ("results.csv", "differences.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (archive.parent / name).read_bytes()


def test_what_does_not_fit_is_named_and_can_be_checked_with_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = kept_comparison(tmp_path / "kept")
    (folder / "jobs" / "detect-random-0" / "detections.csv").unlink()
    split = np.random.default_rng(0).bytes(12_000).hex()
    (folder / "jobs" / "detect-clop-0" / "train_split.json").write_text(split)
    monkeypatch.setattr(bundle, "LARGEST", 22_000)
    report([folder])
    archive = folder / REPORT / "report.zip"
    found = verify_bundle(archive)
    assert found.faults == []
    assert 0 < len(found.tests) < 3, found.tests
    assert archive.stat().st_size < 22_000
    assert "for the archive's size" in found.notes[0]
    assert "jobs/detect-clop-0/train_split.json" in found.notes[0]
    assert "jobs/detect-random-0" in found.notes[1]
    capsys.readouterr()
    assert main(["verify", str(archive), "--runs", str(folder)]) == 0
    assert "3 tests, largest difference 0.0" in capsys.readouterr().out
    left = folder / "jobs" / "detect-random-1" / "detections.csv"
    left.write_text(left.read_text() + "0,0,1,1,9,9,0.5,0\n")
    assert any("has changed" in fault for fault in verify_bundle(archive, folder).faults)
    with zipfile.ZipFile(archive) as files:
        files.extract("verify.py", tmp_path)
    words = [sys.executable, str(tmp_path / "verify.py"), str(archive)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "left out of the archive: " in done.stdout
    assert "jobs/detect-clop-0/train_split.json" in done.stdout


def test_a_plan_that_names_what_no_run_has(tmp_path: Path) -> None:
    folder = kept_comparison(tmp_path)
    grids = {"label_fraction": None, "detection": "scenes", "pretrain_grid": {}, "detection_grid": {}}
    cells = [{"init": i, "seed": s, "detect": f"detect-{i}-{s}", **grids} for i in ("random", "clop") for s in range(3)]
    plan = {"name": "n", "baseline": "absent", "metric": "absent", "cells": cells, "kept": {}}
    (folder / "plan.json").write_text(json.dumps(plan))
    report([folder])
    found = verify_bundle(folder / REPORT / "report.zip")
    assert found.faults == []
    assert len(found.tests) == 4  # the third seed has not run


def test_each_of_several_test_sets_is_checked(tmp_path: Path) -> None:
    run = kept_run(tmp_path, "random", 0)
    for name in ("ground_truth.json", "detections.csv"):
        (run / name).unlink()
    results = json.loads((run / "results.json").read_text())
    metrics = {"probe/knn_top1": 0.5}
    for seed, name in enumerate(("a/test", "val")):
        test = dataclasses.replace(a_test(seed, 2.0), data_set=name, prefix=f"{name}/")
        write_tested(run, test)
        metrics |= flatten(score(test.truth, test.found, test.headline).families, test.prefix)
    (run / "results.json").write_text(json.dumps({**results, "metrics": metrics}))
    report([tmp_path])
    found = verify_bundle(tmp_path / REPORT / "report.zip")
    assert found.faults == []
    assert list(found.tests) == ["jobs/detect-random-0 a/test", "jobs/detect-random-0 val"]
    assert sum(found.tests.values()) == len(metrics) - 1


@pytest.mark.parametrize(
    "change", [{"tests": 3}, {"tests": [3, {"run": []}]}, {"same": [1]}, {"files": 7}, {"baseline": 5}]
)
def test_a_manifest_of_another_form_is_no_crash(tmp_path: Path, change: dict) -> None:
    content = {"format": bundle.FORMAT, "clop_det": clop_det.__version__, "files": {}, "tests": [], **change}
    (tmp_path / "a.zip").write_bytes(sealed({"manifest.json": json.dumps(content).encode()}))
    assert verify_bundle(tmp_path / "a.zip").faults
    (tmp_path / "b.zip").write_bytes(sealed({"manifest.json": b"[1]"}))
    with pytest.raises(UserError, match="another version"):
        verify_bundle(tmp_path / "b.zip")


def test_a_planned_comparison_and_its_archive(finished: Workplace, tmp_path: Path) -> None:
    shutil.copy(finished.output / REPORT / "report.zip", tmp_path)
    found = verify_bundle(tmp_path / "report.zip")
    assert found.faults == []
    assert found.notes == ["18 runs have no detections in the archive: " + found.notes[0].split(": ")[1]]
    with zipfile.ZipFile(tmp_path / "report.zip") as files:
        assert "plans/0/plan.json" in files.namelist()
        assert not any(name.endswith((".pth", ".png")) for name in files.namelist())


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"no report\.zip"):
        verify_bundle(tmp_path / "a.zip")
    (tmp_path / "b.zip").write_bytes(sealed({"manifest.json": b'{"format": "other"}'}))
    with pytest.raises(UserError, match="another version"):
        verify_bundle(tmp_path / "b.zip")
    with pytest.raises(UserError, match="no file"):
        main(["verify", str(tmp_path / "absent.zip")])


def test_a_run_is_checked_by_the_results_that_the_tables_show(archive: Path, tmp_path: Path) -> None:
    """Neither a copy of the true results nor a test that is kept silent about hides a figure that was changed."""
    name, target = "jobs/detect-clop-1", tmp_path / "report.zip"
    with zipfile.ZipFile(archive) as old:
        files = {entry: old.read(entry) for entry in old.namelist()}
    manifest = json.loads(files["manifest.json"])
    results = json.loads(files[f"{name}/results.json"])
    results["metrics"]["coco/AP"] += 1
    files |= {f"{name}/results.json": json.dumps(results).encode(), "copy.json": files[f"{name}/results.json"]}
    manifest["files"] |= {path: bundle.hashlib.sha256(files[path]).hexdigest() for path in files}
    del manifest["files"]["manifest.json"]
    own = next(test for test in manifest["tests"] if test["run"] == name)
    own["results"] = "copy.json"
    target.write_bytes(sealed({**files, "manifest.json": json.dumps(manifest).encode()}))
    assert any("coco/AP is" in fault for fault in verify_bundle(target).faults)
    manifest["tests"].remove(own)
    target.write_bytes(sealed({**files, "manifest.json": json.dumps(manifest).encode()}))
    assert verify_bundle(target).notes == [f"1 runs have no detections in the archive: {name}."]


@pytest.mark.parametrize(
    ("path", "change"), [("x", {"same": {"a": []}}), (f"jobs/{'a' * 300}", {}), ("jobs/detect-clop-1/job.json/x", {})]
)
def test_names_that_no_folder_takes_are_no_crash(archive: Path, tmp_path: Path, path: str, change: dict) -> None:
    with zipfile.ZipFile(archive) as old:
        files = {**{entry: old.read(entry) for entry in old.namelist()}, path: b"{}"}
    manifest = json.loads(files["manifest.json"]) | change
    manifest["files"][path] = bundle.hashlib.sha256(b"{}").hexdigest()
    manifest["left_out"] = {"a" * 300: "0"}
    (tmp_path / "report.zip").write_bytes(sealed({**files, "manifest.json": json.dumps(manifest).encode()}))
    faults = verify_bundle(tmp_path / "report.zip", tmp_path).faults
    assert change or any("give no tables" in fault for fault in faults)
