"""A report of somebody's run folders: nothing outside is written or read, no text of theirs is code, none ends it."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from clop_det.commands.compare import main
from clop_det.comparison.report.escaping import csv_cell, file_name, latex, markdown
from clop_det.comparison.results.reading import clean, read_object, sound
from clop_det.comparison.results.summary import read_comparison

NAME = '=cmd|" $\\frac$ <img src=x> ](http://x) \x1b[31m'


def write_run(folder: Path, **facts: object) -> Path:
    folder.mkdir(parents=True)
    job = {"kind": "detect", "init": "a", "detection": "d", "seed": 0, "label_fraction": None, **facts}
    (folder / "job.json").write_text(json.dumps(job))
    lines = [{"iteration": k, "bbox/AP": 5.0 + k} for k in range(3)]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "results.json").write_text(json.dumps({"kind": "detection", "seed": 0, "metrics": {"bbox/AP": 10.0}}))
    return folder


def test_a_name_that_leads_out_of_the_report(tmp_path: Path) -> None:
    write_run(tmp_path / "in" / "a", detection="x/../../../../ESCAPED")
    assert main(["report", str(tmp_path / "in"), "--output", str(tmp_path / "in" / "report")]) == 0
    outside = [path for path in tmp_path.rglob("*ESCAPED*") if path.parent != tmp_path / "in" / "report" / "figures"]
    assert not outside
    named = re.findall(r"!\[.*\]\((.*)\)", (tmp_path / "in" / "report" / "results.md").read_text())
    assert named
    assert all((tmp_path / "in" / "report" / name).is_file() for name in named)


def test_no_format_runs_what_a_name_says(tmp_path: Path) -> None:
    write_run(tmp_path / "in" / "a", init=NAME)
    assert main(["report", str(tmp_path / "in"), "--output", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "<img src=x>" not in page
    assert "\x1b" not in page
    text = (tmp_path / "report" / "results.md").read_text()
    assert "<img" not in text
    assert "](http" not in text
    (row,) = csv.DictReader(io.StringIO((tmp_path / "report" / "results.csv").read_text()))
    assert row["init"].startswith("'=cmd")
    assert r"\$\textbackslash{}frac\$" in (tmp_path / "report" / "results.tex").read_text()
    assert "cannot be drawn" not in page


@pytest.mark.parametrize("kind", ["outside", "link", "bomb", "sound"])
def test_pictures_are_those_of_the_run_folder(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, look = write_run(tmp_path / "in" / "a"), tmp_path / "in" / "look"
    write_run(look, kind="inspect", detect=run.name)
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 48), "red").save(secret)
    (look / "own.png").write_bytes(secret.read_bytes())
    (look / "link.png").symlink_to(secret)
    if kind == "bomb":
        monkeypatch.setattr("clop_det.comparison.report.examples._MOST_PIXELS", 64 * 48 - 1)
    name = {"outside": str(secret), "link": "link.png"}.get(kind, "own.png")
    box = {"box": [-1e9, 0, 1e9, 9], "label": "a"}
    truth = [box, {"box": [1, 2, 30, 40], "label": "b"}, {"box": "no"}, 7]
    examples = {"images": [{"file": "x", "image": name, "ground_truth": truth, "detections": [{**box, "score": 2}]}, 3]}
    (look / "examples.json").write_text(json.dumps(examples))
    assert main(["report", str(tmp_path / "in"), "--output", str(tmp_path / "report")]) == 0
    drawn = list((tmp_path / "report" / "figures").glob("detections_*.png"))
    assert len(drawn) == (kind == "sound")


@pytest.mark.parametrize("name", ["job.json", "results.json", "metrics.json", "plan.json", "config.yaml"])
@pytest.mark.parametrize("content", ["[" * 100_000, "\xff", "[]", '{"kind": 3, "attempts": [1], "cells": [2, {}]}'])
def test_a_file_of_another_form_costs_what_it_says(name: str, content: str, tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", init="b")
    (tmp_path / "b" / name).write_text(content, encoding="latin-1")
    assert "a" in {row.setting.init for row in read_comparison([tmp_path]).rows}


def test_entries_of_another_form_are_named() -> None:
    kept, wrong = sound({"seed": "x", "init": "a", "label_fraction": 7, "metrics": {"AP": "high"}, "own": object})
    assert (sorted(kept), sorted(wrong)) == (["init", "own"], ["label_fraction", "metrics", "seed"])
    assert clean({"a\nb": ["\ud800" + "x" * 500]}) == {"a b": [" " + "x" * 399]}


def test_too_large_a_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clop_det.comparison.results.reading._MOST_BYTES", 10)
    (tmp_path / "job.json").write_text('{"seed": 1, "init": "a"}')
    assert read_object(tmp_path / "job.json") == {}


def test_escapes() -> None:
    assert [csv_cell(value) for value in ("=1", "-x", "-0.5", "+1e3", "a", 3)] == ["'=1", "'-x", "-0.5", "+1e3", "a", 3]
    assert latex("50 % a_b\n\\x") == r"50 \% a\_b \textbackslash{}x"
    assert markdown("a|b\n<i> [x](y)") == "a\\|b &lt;i> [x]&#40;y)"
    assert file_name("metric_by_setting") == "metric_by_setting"
    assert file_name("../../x") != file_name("_/_/x")
    assert set(file_name("../..\\é x" * 99)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-")
