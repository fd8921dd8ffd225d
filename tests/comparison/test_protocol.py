"""By which rules rows are comparable: one policy for heads, one file a seed; refused, planned, and said first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.planning.plan import Plan, build_plan
from clop_det.comparison.results.protocol import protocol_lines
from clop_det.comparison.results.rows import Row, Setting
from clop_det.comparison.running.launchers import command
from clop_det.errors import UserError
from tests.comparison.workplace import Workplace


def plan(workplace: Workplace, changes: dict[str, Any]) -> Plan:
    path = workplace.write(changes)
    return build_plan(read_matrix(load_compare_config(path), path.parent))


def detector(path: Path, seed: int = 0) -> Path:
    """The names of a detector around a ResNet, which is all that planning looks at."""
    torch.manual_seed(seed)
    names = ("backbone.bottom_up.res2.0.conv1.weight", "backbone.fpn_lateral2.weight", "roi_heads.box_head.fc1.weight")
    torch.save({"model": {name: torch.rand(2, 2) for name in names}}, path)
    return path


def test_each_seed_has_its_own_file(workplace: Workplace) -> None:
    (workplace.folder / "runs").mkdir()
    for seed in (0, 3):
        (workplace.folder / "runs" / f"seed{seed}.pth").write_bytes(b"%d" % seed)
    own = {"NAME": "own", "CHECKPOINT": "runs/seed{seed}.pth"}
    changes = {"INITS": ["random", own], "SEEDS": [0, 3], "EXAMPLES": 0}
    made = plan(workplace, changes)
    sources = {name.split("-")[-2]: job.arguments["source"] for name, job in made.jobs.items() if job.kind == "convert"}
    assert sources == {f"s{seed}": str(workplace.folder / "runs" / f"seed{seed}.pth") for seed in (0, 3)}
    for cell in made.cells:
        assert (f"-s{cell.seed}-" in cell.convert) == (cell.init == "own")
    with pytest.raises(UserError, match=r"no file \"runs/seed5\.pth\""):
        plan(workplace, {**changes, "SEEDS": [0, 5]})
    (workplace.folder / "runs" / "seed3.pth").write_bytes(b"0")
    with pytest.raises(UserError, match=r"COMPARE\.INITS own: .*seed0\.pth and .*seed3\.pth have the same content"):
        plan(workplace, changes)


def test_one_file_for_all_seeds_is_marked_and_a_file_for_each_is_not(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "own0", "own1"):
        (workplace.folder / f"{name}.pth").write_bytes(name.encode())
    inits = ["random", {"NAME": "one", "CHECKPOINT": "one.pth"}, {"NAME": "own", "CHECKPOINT": "own{seed}.pth"}]
    workplace.write({"INITS": inits, "SEEDS": [0, 1]})
    assert workplace.run() == 0
    out = capsys.readouterr().out
    assert "Rows marked ‡ start from one given file in all seeds (one)." in out
    assert [line.split("  ")[0] for line in out.splitlines() if "‡  " in line] == ["one ‡"]
    for name in ("results.md", "report.html"):
        text = (workplace.output / "report" / name).read_text()
        assert text.index("leave out how much one pretraining differs") < text.index(
            "initialisation</th>" if "html" in name else "| initial"
        )
    workplace.write({"INITS": inits, "SEEDS": [0]})
    assert workplace.run() == 0
    assert "‡" not in capsys.readouterr().out  # one seed has no interval


def test_keeping_heads_asks_every_row_for_a_detector(workplace: Workplace) -> None:
    detector(workplace.folder / "a.pth")
    detector(workplace.folder / "b.pth", 1)
    torch.save({"res2.0.conv1.weight": torch.rand(2, 2)}, workplace.folder / "backbone.pth")
    one, other = ({"NAME": name, "CHECKPOINT": f"{name}.pth"} for name in "ab")
    bare = {"NAME": "bare", "CHECKPOINT": "backbone.pth"}
    for inits, message in (
        ([one, "random"], "the initialisation random is random and brings no heads"),
        ([one, "clop"], "the initialisation clop is pretrained here and brings no heads"),
        ([one, bare], r"backbone\.pth holds no detector"),
        ([one, {**other, "HEADS": "redraw"}], r"HEADS is one rule for all rows.*COMPARE\.HEADS"),
    ):
        with pytest.raises(UserError, match=message):
            plan(workplace, {"INITS": inits, "BASELINE": "a", "HEADS": "keep"})
    with pytest.raises(UserError, match=r"COMPARE\.HEADS is 'both'; it must be one of redraw, keep"):
        plan(workplace, {"HEADS": "both"})
    made = {
        policy: list(plan(workplace, {"INITS": [one, other], "BASELINE": "a", "HEADS": policy}).jobs.values())
        for policy in ("redraw", "keep")
    }
    words = {
        policy: ["--keep-heads" in command(job, Path("x")) for job in jobs if job.kind == "convert"]
        for policy, jobs in made.items()
    }
    assert words == {"redraw": [False, False], "keep": [True, True]}
    assert not {job.name for job in made["keep"]} & {job.name for job in made["redraw"]}


def row(folder: Path, init: str, seed: int, start: Any) -> Row:
    place = folder / f"{init}{seed}"
    place.mkdir()
    if start is not None:
        (place / "start.json").write_text(json.dumps(start))
    return Row(Setting(init, None, "d"), seed, "done", folders={"detect": place}, results={"detect": {}})


def test_the_heads_of_the_runs_are_compared_seed_by_seed(tmp_path: Path) -> None:
    def lines(name: str, policy: str, *starts: Any) -> list[str]:
        (tmp_path / name).mkdir()
        rows = [row(tmp_path / name, f"i{n}", n // 2, start) for n, start in enumerate(starts)]
        return protocol_lines(rows, {"heads": policy})

    def start(seed: int, *loaded: str) -> dict[str, Any]:
        drawn = {name: f"{name}{seed}" for name in ("fpn", "rpn", "box") if name not in loaded}
        return {"drawn": drawn, "loaded": list(loaded)}

    (said,) = lines("same", "redraw", start(0), start(0), start(1), start(1))
    assert said.startswith("Every detector draws its pyramid and heads anew (COMPARE.HEADS redraw): the 3 tensors")
    assert said.endswith("are equal in all rows of a seed (checked in 4 runs).")
    (said,) = lines("kept", "keep", start(0, "fpn", "rpn"), start(0, "fpn", "rpn"))
    assert "keeps the pyramid and heads of its weights (COMPARE.HEADS keep): 2 tensors. The other 1" in said
    (said,) = lines("other", "redraw", start(0), start(1))
    assert said == "i0 and i1 (seed 0) did not start with the same heads (fpn differs)."
    (said,) = lines("mixed", "redraw", start(0), start(0, "fpn"))
    assert said.startswith("i0 and i1 (seed 0) did not start alike: 0 and 1 tensors of their heads")
    assert lines("silent", "redraw", start(0), start(0), start(1), None)[-1].startswith("1 of 4 detection runs do not")
    assert lines("old", "", None, None) == lines("odd", "redraw", [], {"drawn": 3, "loaded": []}) == []


def test_a_pretraining_may_start_from_given_weights(workplace: Workplace) -> None:
    for seed in (0, 1):
        (workplace.folder / f"start{seed}.pth").write_bytes(b"%d" % seed)
    clop = {"NAME": "on_top", "LOSS": "clop", "FROM": "start{seed}.pth"}
    made = plan(workplace, {"INITS": ["random", "clop", clop], "SEEDS": [0, 1]})
    starts = {
        (job.facts["init"], job.facts["seed"]): job.config.PRETRAIN.FROM
        for job in made.jobs.values()
        if job.kind == "pretrain" and job.config is not None
    }
    own = {("on_top", seed): str(workplace.folder / f"start{seed}.pth") for seed in (0, 1)}
    assert starts == {("clop", 0): "", ("clop", 1): "", **own}
    for wrong, message in (
        ({"NAME": "random", "FROM": "start0.pth"}, "has no use for FROM"),
        ({"NAME": "x", "CHECKPOINT": "start0.pth", "FROM": "start1.pth"}, "can have no LOSS, OPTS or FROM"),
        ({"NAME": "x", "LOSS": "clop", "OPTS": {"PRETRAIN.FROM": "start0.pth"}}, "Use FROM of an entry"),
        ({"NAME": "x", "LOSS": "clop", "FROM": "gone.pth"}, r"no file \"gone\.pth\""),
    ):
        with pytest.raises(UserError, match=message):
            plan(workplace, {"INITS": ["clop", wrong], "BASELINE": "clop"})
