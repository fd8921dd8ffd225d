"""Stored comparisons that ran all their seeds, replayed under the sequential rule."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import replay
from clop_det.comparison.results.summary import read_comparison
from clop_det.errors import UserError

SEEDS = 10
AHEAD = {"random": 0.0, "none": 0.0, "far": 30.0}


def stored(folder: Path, seeds: int = SEEDS) -> Path:
    """Finished fine-tunings of three initialisations; a far row is pretrained, which takes as long again."""
    draw = np.random.default_rng(1)
    for init, effect in AHEAD.items():
        for seed in range(seeds):
            kinds = ("pretrain", "detect") if init == "far" else ("detect",)
            for kind in kinds:
                run = folder / "jobs" / f"{kind}-{init}-{seed}"
                run.mkdir(parents=True)
                record = {"kind": kind, "name": run.name, "init": init, "seed": seed}
                record |= {"detection": "scenes"} if kind == "detect" else {}
                record |= {"pretrain": f"pretrain-{init}-{seed}"} if len(kinds) > 1 and kind == "detect" else {}
                attempts = [{"seconds": 10.0, "cores": 2, "exit_code": 0}]
                (run / "job.json").write_text(json.dumps({**record, "attempts": attempts}))
                metrics = {"bbox/AP": 30 + effect + float(draw.normal())} if kind == "detect" else {}
                (run / "results.json").write_text(json.dumps({"kind": kind, "seed": seed, "metrics": metrics}))
    return folder


def test_a_stored_comparison_is_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, output = stored(tmp_path / "runs"), tmp_path / "found.json"
    monkeypatch.setattr(sys, "argv", ["replay", str(folder), "--orders", "20", "--output", str(output)])
    replay.main()
    (found,) = json.loads(output.read_text())
    rows = {row["row"].split()[0]: row for row in found["rows"]}
    assert {name: row["whole"] for name, row in rows.items()} == {"none": "not shown", "far": "ahead"}
    assert all(row["in_sequence"] == row["whole"] for row in rows.values())
    # Fine-tunings of both rows, of the baseline as long as the longer of the two, and pretrainings of one.
    none, far = rows["none"]["seeds"], rows["far"]["seeds"]
    assert far < SEEDS
    assert found["jobs"]["all"] == 4 * SEEDS
    assert found["jobs"]["run"] == none + 2 * far + max(none, far)
    assert found["jobs"]["time"] == pytest.approx(found["jobs"]["share"])  # all jobs take equally long here
    assert found["orders"]["count"] == 20
    assert found["orders"]["all_same"] > 0.5
    shown = capsys.readouterr().out
    assert f"{found['jobs']['run']} of 40 jobs" in shown


def test_what_cannot_be_replayed_is_refused(tmp_path: Path) -> None:
    folder = stored(tmp_path / "few", 3)
    with pytest.raises(UserError, match="has 3 seeds; a replay needs at least 4"):
        replay.replay(read_comparison([folder]))
    folder = stored(tmp_path / "partial", 4)
    (folder / "jobs" / "detect-far-2" / "results.json").unlink()
    with pytest.raises(UserError, match="not all seeds of far"):
        replay.replay(read_comparison([folder]))
