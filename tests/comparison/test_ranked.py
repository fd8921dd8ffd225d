"""COMPARE.INITS_FROM: a comparison of the first checkpoints of a ranking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.planning.plan import Plan, build_plan
from clop_det.comparison.planning.plan_file import write_plan
from clop_det.comparison.report.ranking import metric_against_score
from clop_det.comparison.results.summary import read_comparison
from clop_det.errors import UserError
from clop_det.ranking.ranking import Ranking
from clop_det.ranking.ranking_file import read_ranking_file, write_ranking_file
from clop_det.ranking.rule import Standing
from tests.comparison.kept import kept_run
from tests.comparison.workplace import Workplace


def ranking(folder: Path) -> Path:
    """Three checkpoints, the second of which is not told apart from the first."""
    standings = [Standing("a b", 1.0, 0.0, 0.0), Standing("c", 0.9, 0.1, 0.3), Standing("d", -1.9, 2.9, 0.3)]
    files = {}
    for index, standing in enumerate(standings):
        files[standing.name] = folder / f"{standing.name}.pth"
        torch.save({"weight": torch.full((3,), float(index))}, files[standing.name])
    return write_ranking_file(Ranking(standings, {}, {}, [], {}, (40, 4), files), folder)


def plan(workplace: Workplace, changes: dict[str, Any]) -> Plan:
    path = workplace.write(changes)
    return build_plan(read_matrix(load_compare_config(path), path.parent))


def test_the_jobs_are_those_of_the_same_checkpoints_named_by_hand(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path / "w")
    ranking(workplace.folder)
    ranked = plan(workplace, {"INITS": ["random"], "INITS_FROM": {"RANKING": "ranking.json", "TOP": 3}})
    by_hand = [{"NAME": name.replace(" ", "-"), "CHECKPOINT": f"{name}.pth"} for name in ("a b", "c", "d")]
    named = plan(workplace, {"INITS": ["random", *by_hand]})
    assert list(ranked.jobs) == list(named.jobs)
    assert ranked.cells == named.cells
    assert ranked.matrix.ranking["scores"] == {"a-b": [1.0, 0.0], "c": [0.9, 0.3], "d": [-1.9, 0.3]}


def test_without_top_all_that_are_not_told_apart_from_the_first_are_taken(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path / "w")
    ranking(workplace.folder)
    found = plan(workplace, {"INITS": ["random"], "INITS_FROM": {"RANKING": "ranking.json"}})
    assert [init.name for init in found.matrix.inits] == ["random", "a-b", "c"]


def test_a_base_brings_its_ranking_along(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path / "w")
    ranking(workplace.folder)
    base = workplace.write({"INITS": ["random"], "INITS_FROM": {"RANKING": "ranking.json"}})
    other = tmp_path / "other.yaml"
    other.write_text(f"_BASE_: {base}\n")
    assert load_compare_config(other).COMPARE.INITS_FROM["RANKING"] == str(workplace.folder / "ranking.json")


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"TOP": 1}, "names no RANKING"),
        ({"RANKING": "none.json"}, "no file"),
        ({"RANKING": "detect.yaml"}, "as JSON"),
        ({"RANKING": "other.json"}, "is no ranking"),
        ({"RANKING": "ranking.json", "TOP": 4}, "TOP is 4; it must be a whole number from 1 to 3"),
        ({"RANKING": "ranking.json", "TOPS": 1}, "unknown key TOPS"),
    ],
)
def test_bad_entries_are_one_error(node: dict[str, Any], said: str, tmp_path: Path) -> None:
    workplace = Workplace(tmp_path / "w")
    ranking(workplace.folder)
    (workplace.folder / "other.json").write_text(json.dumps({"rule": "x", "checkpoints": [{"name": "a"}]}))
    with pytest.raises(UserError, match=said):
        plan(workplace, {"INITS": ["random"], "INITS_FROM": node})


def test_a_checkpoint_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path / "w")
    rule, ranked = read_ranking_file(ranking(workplace.folder))
    assert "linear" in rule
    torch.save({"weight": torch.zeros(9)}, ranked[0].path)
    with pytest.raises(UserError, match="has changed since"):
        plan(workplace, {"INITS": ["random"], "INITS_FROM": {"RANKING": "ranking.json"}})


def test_the_report_shows_scores_against_the_metric(tmp_path: Path) -> None:
    workplace = Workplace(tmp_path / "w")
    ranking(workplace.folder)
    found = plan(workplace, {"INITS": ["random"], "INITS_FROM": {"RANKING": "ranking.json", "TOP": 3}})
    write_plan(found, {}, {})
    for init in ("random", "a-b", "c"):
        run = kept_run(workplace.output, init, 0)
        name = next(cell.detect for cell in found.cells if cell.init == init)
        run.rename(run.with_name(name))
    comparison = read_comparison([workplace.output])
    picture, *more = metric_against_score(comparison)
    assert not more
    assert "Rule: linear on boxes + kNN on boxes" in picture.caption
    assert "a-b" in picture.svg
    plan_file = workplace.output / "plan.json"
    content = json.loads(plan_file.read_text())
    plan_file.write_text(json.dumps({**content, "ranking": {"rule": "x", "scores": {"c": [1.0]}}}))
    assert metric_against_score(read_comparison([workplace.output])) == []
