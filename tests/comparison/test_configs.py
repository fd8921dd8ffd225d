"""Every ready matrix resolves to jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from clop_det.comparison.config import load_compare_config
from clop_det.comparison.matrix import read_matrix
from clop_det.comparison.plan import Plan, build_plan
from clop_det.losses import loss_options

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "compare"


def plan(name: str, *overrides: str) -> Plan:
    path = CONFIGS / name
    return build_plan(read_matrix(load_compare_config(path, overrides), path.parent))


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.yaml")))
def test_resolves(name: str) -> None:
    made = plan(name)
    assert made.cells
    assert made.matrix.output.parts[0] == "output"


def test_output_folders_differ() -> None:
    folders = [load_compare_config(path).OUTPUT_DIR for path in CONFIGS.glob("*.yaml")]
    assert len(set(folders)) == len(folders)


def test_the_demo() -> None:
    made = plan("digits.yaml")
    assert [cell.init for cell in made.cells] == ["random", "info_nce", "clop"]
    assert {cell.seed for cell in made.cells} == {0}
    assert str(made.matrix.output) == "output/demo"


def test_the_full_one_has_three_seeds_of_five_initialisations() -> None:
    made = plan("digits_full.yaml")
    assert {cell.init for cell in made.cells} == {"random", "info_nce", "clop", "cross_entropy", "supcon"}
    assert len(made.cells) == 15


def test_the_label_study_holds_every_loss() -> None:
    used = {init.loss for init in plan("digits_labels.yaml").matrix.inits if init.loss}
    assert used == set(loss_options()) - {"prototype_pull"}


def test_what_sees_no_labels_is_said_to() -> None:
    for path in CONFIGS.glob("*.yaml"):
        for init in plan(path.name).matrix.inits:
            if init.loss:
                assert init.uses_labels == (init.loss not in ("info_nce", "dcl", "vicreg", "barlow_twins")), path.name
