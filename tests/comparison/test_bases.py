"""A comparison over another one in another folder: paths, descriptions and frozen rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.matrix import Matrix, read_matrix
from clop_det.comparison.planning.plan import build_plan
from clop_det.errors import UserError
from tests.comparison.workplace import Workplace


def derived(workplace: Workplace, compare: dict[str, Any], base: str = "../compare.yaml") -> Path:
    path = workplace.folder / "other" / "mine.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"_BASE_": base, "COMPARE": compare}))
    return path


def matrix(path: Path) -> Matrix:
    return read_matrix(load_compare_config(path), path.parent)


def test_paths_of_a_base_are_those_of_its_own_folder(workplace: Workplace) -> None:
    for name in ("given.pth", "seed0.pth"):
        (workplace.folder / name).write_bytes(name.encode())
    inits = ["random", {"NAME": "given", "CHECKPOINT": "given.pth"}, {"NAME": "own", "CHECKPOINT": "seed{seed}.pth"}]
    workplace.write(
        {"INITS": [*inits, {"NAME": "top", "LOSS": "clop", "FROM": "given.pth"}], "DETECTION": ["detect.yaml"]}
    )
    made = matrix(derived(workplace, {"SEEDS": [0]}))
    files = {init.name: [*init.checkpoints.values(), *init.starts.values()] for init in made.inits}
    given = (workplace.folder / "given.pth").resolve()
    assert files == {"random": [], "given": [given], "own": [given.with_name("seed0.pth")], "top": [given]}
    assert made.pretrain_config == (workplace.folder / "pretrain.yaml").resolve()
    assert made.detections[0].config == (workplace.folder / "detect.yaml").resolve()
    # What the derived file names is looked up beside it, though a file of that name lies beside the base.
    (workplace.folder / "other" / "pretrain.yaml").write_text((workplace.folder / "pretrain.yaml").read_text())
    made = matrix(derived(workplace, {"SEEDS": [0], "PRETRAIN": {"CONFIG": "pretrain.yaml"}}))
    assert made.pretrain_config == workplace.folder / "other" / "pretrain.yaml"


def test_a_path_that_is_not_beside_the_base_is_left_as_it_is(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace.folder / "control")
    (workplace.folder / "control" / "here.pth").write_bytes(b"x")
    workplace.write({"INITS": ["random", {"NAME": "given", "CHECKPOINT": "here.pth"}]})
    assert list(matrix(derived(workplace, {})).inits[1].checkpoints.values()) == [Path("here.pth")]


def test_a_description_is_not_taken_over_in_silence(workplace: Workplace) -> None:
    workplace.write({"DESCRIPTION": "One seed."})
    assert matrix(workplace.config).description == "One seed."
    assert matrix(derived(workplace, {"DESCRIPTION": "Mine."})).description == "Mine."
    said = "One seed. (Description of compare.yaml, which this comparison changes.)"
    assert matrix(derived(workplace, {})).description == said
    middle = derived(workplace, {"SEEDS": [1]})
    last = workplace.folder / "last.yaml"
    last.write_text(yaml.safe_dump({"_BASE_": str(middle.relative_to(workplace.folder))}))
    assert matrix(last).description == said


def test_frozen_rows_are_rows_of_their_own_without_a_random_one(workplace: Workplace) -> None:
    detection = {"CONFIG": "detect.yaml"}
    frozen = {**detection, "NAME": "frozen", "FREEZE": "all"}
    workplace.write({"DETECTION": [{**detection, "NAME": "tuned"}, frozen]})
    made = build_plan(matrix(workplace.config))
    rows = {(cell.detection, cell.init): made.jobs[cell.detect] for cell in made.cells}
    assert set(rows) == {("tuned", "random"), ("tuned", "clop"), ("frozen", "clop")}
    freeze = {name: job.config.MODEL.FREEZE for name, job in rows.items() if job.config is not None}
    assert freeze == {("tuned", "random"): "", ("tuned", "clop"): "", ("frozen", "clop"): "all"}
    assert len({cell.pretrain for cell in made.cells if cell.pretrain}) == 1
    workplace.write({"DETECTION": [{**frozen, "FREEZE": "some"}]})
    with pytest.raises(UserError, match=r"MODEL\.FREEZE is 'some'; it must be one of , all"):
        build_plan(matrix(workplace.config))
    # Wherever it is said that the backbone stands still.
    for changes in (
        {"DETECTION": [{**detection, "NAME": "d", "GRID": {"MODEL.FREEZE": ["", "all"]}}]},
        {"INITS": [{"NAME": "random", "DETECTION_OPTS": {"MODEL.FREEZE": "all"}}, "clop"]},
    ):
        workplace.write(changes)
        made = build_plan(matrix(workplace.config))
        configs = {cell.init: made.jobs[cell.detect].config for cell in made.cells}
        assert configs["clop"] is not None
        assert all(config.MODEL.FREEZE == "" for name, config in configs.items() if name == "random" and config)
    assert set(configs) == {"clop"}


def test_what_all_rows_are_judged_by_is_not_set_for_one_of_them(workplace: Workplace) -> None:
    for opts in ({"DATASETS": {"TEST": ["a"]}}, {"DATASETS.REGISTER": []}, {"TEST.COCO_MAX_DETECTIONS": 300}):
        workplace.write({"INITS": ["random", {"NAME": "clop", "DETECTION_OPTS": opts}]})
        with pytest.raises(UserError, match=r"clop DETECTION_OPTS sets .*, by which all rows are judged"):
            matrix(workplace.config)


def test_a_source_without_a_checkpoint_is_refused(workplace: Workplace) -> None:
    (workplace.folder / "given.pth").write_bytes(b"x")
    for item in ({"NAME": "clop", "SOURCE": "timm"}, {"NAME": "clop", "SOURCE": "timm", "FROM": "given.pth"}):
        workplace.write({"INITS": ["random", item]})
        with pytest.raises(UserError, match="names a SOURCE, which is the format of a CHECKPOINT"):
            matrix(workplace.config)
