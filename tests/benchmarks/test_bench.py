"""The page of the standing measurements: what is run, stored, compared and said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bench
import pytest
from standing import AIMS, PARTS, Aim, Part
from turns import HIGHER, LOWER, in_turns, ratio, told

ROOT = Path(__file__).resolve().parents[2]
WRITES = """import json, sys
path = sys.argv[sys.argv.index("--output") + 1]
rounds = [float(word) for word in sys.argv[-1].split(",")]
found = {"median": rounds[1], "min": rounds[0], "max": rounds[2], "better": "higher"}
json.dump({"ratios": {"speed over theirs": found}, "provenance": {"commit": "0123456789abcdef"}}, open(path, "w"))
"""


def spread(least: float, median: float, most: float, better: str = HIGHER) -> dict[str, Any]:
    return {"median": median, "min": least, "max": most, "better": better}


def test_everyone_comes_first_once_and_ratios_stay_within_rounds() -> None:
    order = []

    def run(name: str, seconds: list[float]) -> float:
        order.append(name)
        return seconds.pop(0)

    slow = iter([3.0, 30.0, 8.0])  # the machine is ten times slower in the second round
    fast = iter([1.0, 10.0, 2.0])
    found = in_turns({"slow": lambda: run("slow", [next(slow)]), "fast": lambda: run("fast", [next(fast)])}, 3)
    assert order == ["slow", "fast", "fast", "slow", "slow", "fast"]
    assert ratio(found["slow"], found["fast"], LOWER) == spread(3.0, 3.0, 4.0, LOWER)
    assert told(spread(1.2, 1.224, 1.3)) == "1.22 (1.20 to 1.30)"


@pytest.mark.parametrize(
    ("before", "now", "better", "mark"),
    [
        ((1.0, 1.1, 1.2), (1.2, 1.3, 1.4), HIGHER, ""),  # they touch
        ((1.0, 1.1, 1.2), (1.3, 1.4, 1.5), HIGHER, "**better**"),
        ((1.0, 1.1, 1.2), (1.3, 1.4, 1.5), LOWER, "**worse**"),
        ((1.3, 1.4, 1.5), (1.0, 1.1, 1.2), LOWER, "**better**"),
        ((1.0, 1.1, 1.2), (0.7, 0.8, 0.9), HIGHER, "**worse**"),
        ((0.5, 1.1, 2.0), (0.9, 1.0, 1.1), HIGHER, ""),  # one lies in the other
    ],
)
def test_a_mark_only_where_ranges_do_not_overlap(before: Any, now: Any, better: str, mark: str) -> None:
    assert bench.compared(spread(*before, better), spread(*now, better)) == mark
    assert bench.compared(None, spread(*now, better)) == ""


def test_aims_name_what_the_parts_measure() -> None:
    assert {aim.part for aim in AIMS} <= {part.name for part in PARTS} | {"streaming"}  # photographs may be absent
    for part in PARTS:
        code = (ROOT / part.script).read_text() + (ROOT / "benchmarks" / "loss_timing.py").read_text()
        for words in (part.words, part.short, part.full):
            assert all(f'"{word}"' in code for word in words if word.startswith("--")), part.name


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "writes.py"
    script.write_text(WRITES)
    (tmp_path / "fails.py").write_text("raise SystemExit(3)")
    parts = [
        Part("one", str(script), [], ["1.0,1.1,1.2"], ["2.0,2.1,2.2"]),
        Part("two", str(script), [], ["0.4,0.5,0.6"], ["0.4,0.5,0.6"]),
        Part("broken", str(tmp_path / "fails.py")),
    ]
    monkeypatch.setattr(bench, "PARTS", parts)
    aims = [Aim("ours", "one", "speed over theirs", 2.0), Aim("late", "broken", "speed over theirs", 1.0)]
    monkeypatch.setattr(bench, "AIMS", aims)


@pytest.mark.usefixtures("parts")
def test_parts_are_stored_by_machine_and_compared_with_the_last(tmp_path: Path) -> None:
    stored = tmp_path / "bench.json"
    stored.write_text(json.dumps({"another machine": {"one": {"ratios": {}}}}))
    call = ["--stored", str(stored), "--threads", "1"]
    assert bench.main([*call, "--only", "one", "two"]) == 0
    assert "| ours | 2 | 1.10 (1.00 to 1.20) | no |" in stored.with_suffix(".md").read_text()
    assert bench.main([*call, "--only", "one", "--full"]) == 0
    page = stored.with_suffix(".md").read_text()
    assert "| ours | 2 | 2.10 (2.00 to 2.20) | yes |" in page
    assert "| late | 1 | not measured |  |" in page
    assert "| speed over theirs | higher | 1.10 (1.00 to 1.20) | 2.10 (2.00 to 2.20) | **better** |" in page
    assert "| speed over theirs | higher |  | 0.50 (0.40 to 0.60) |  |" in page  # what was not run again stays
    content = json.loads(stored.read_text())
    assert set(content) == {"another machine", bench.machine(1)}
    assert str(tmp_path) not in content[bench.machine(1)]["one"]["command"].replace(str(tmp_path / "writes.py"), "")


@pytest.mark.usefixtures("parts")
def test_a_part_that_fails_keeps_what_was_stored(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stored = tmp_path / "bench.json"
    earlier = {"command": "python x", "seconds": 1, "clock": "wall", "commit": "c", "before": {}}
    earlier["ratios"] = {"speed over theirs": spread(1.5, 1.6, 1.7)}
    stored.write_text(json.dumps({bench.machine(1): {"broken": earlier}}))
    assert bench.main(["--stored", str(stored), "--threads", "1", "--only", "broken", "one"]) == 1
    assert "broken: " in capfd.readouterr().err
    assert "| late | 1 | 1.60 (1.50 to 1.70) | yes |" in stored.with_suffix(".md").read_text()
    assert json.loads(stored.read_text())[bench.machine(1)]["broken"] == earlier
