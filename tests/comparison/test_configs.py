"""Every ready matrix resolves to jobs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.planning.plan import Plan, build_plan
from clop_det.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "compare"


@pytest.fixture(autouse=True, scope="module")
def no_data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A working directory without any data, but for the checkpoints that are known by their content."""
    folder = tmp_path_factory.mktemp("no_data")
    (folder / "checkpoints").mkdir()
    for name in ("mine.pth", "resnet50-0676ba61.pth", "convnext_tiny.pth"):
        (folder / "checkpoints" / name).write_bytes(name.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


@cache
def plan(name: str) -> Plan:
    return plan_anew(name)


def plan_anew(name: str) -> Plan:
    path = CONFIGS / name
    return build_plan(read_matrix(load_compare_config(path), path.parent))


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


def test_rows_of_different_networks_have_their_own_detectors() -> None:
    made = plan("coco_networks.yaml")
    detectors = [job for job in made.jobs.values() if job.kind == "detect" and job.config is not None]
    archs = {job.facts["init"]: job.config.MODEL.TIMM.ARCH for job in detectors if job.config}
    assert archs == {"resnet50": "", "convnext_tiny": "timm:convnext_tiny"}


def test_the_three_networks_in_one_report_are_the_runs_of_their_own_matrices() -> None:
    made = {name: plan(f"{name}.yaml") for name in ("digits", "digits_convnext", "digits_vit", "digits_networks")}
    runs = {name: {job.digest for job in one.jobs.values()} for name, one in made.items()}
    assert runs["digits_networks"] == runs["digits"] | runs["digits_convnext"] | runs["digits_vit"]
    assert len(made["digits_networks"].cells) == 9


def test_the_one_of_make_demo_full_has_three_seeds_of_five_initialisations() -> None:
    made = plan("digits_seeds.yaml")
    assert {cell.init for cell in made.cells} == {"random", "info_nce", "clop", "cross_entropy", "supcon"}
    assert len(made.cells) == 15
    assert "configs/compare/digits_seeds.yaml" in (CONFIGS.parents[1] / "Makefile").read_text()


def test_the_full_one_has_seven_losses_three_label_fractions_and_three_seeds() -> None:
    matrix = plan("digits_full.yaml").matrix
    losses = {"cross_entropy", "info_nce", "dcl", "vicreg", "barlow_twins", "supcon", "clop"}
    assert {init.loss for init in matrix.inits if init.loss} == losses
    assert (len(matrix.fractions), len(matrix.seeds)) == (3, 3)


@pytest.mark.parametrize(("name", "key"), [("label_noise", "LABELS.NOISE"), ("imbalance", "LABELS.IMBALANCE")])
def test_the_label_studies_vary_one_thing_and_keep_a_baseline_without_it(name: str, key: str) -> None:
    made = plan(f"{name}.yaml")
    for cell in made.cells:
        assert list(cell.pretrain_grid) == ([] if cell.init == "info_nce" else [key])
        group, setting = key.split(".")
        config = made.jobs[cell.pretrain].config
        assert config is not None
        assert config[group][setting] == cell.pretrain_grid.get(key, config[group][setting])
    assert len({cell.pretrain for cell in made.cells if cell.init == "clop"}) == 9  # three levels, three seeds
    assert len({cell.pretrain for cell in made.cells if cell.init == "info_nce"}) == 3


@pytest.mark.parametrize(("name", "steps", "classes"), [("voc", 24000, 20), ("coco", 90000, 80)])
def test_the_large_recipes(
    name: str, steps: int, classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan(f"{name}.yaml")
    detections = [job for job in made.jobs.values() if job.kind == "detect"]
    assert len(detections) == 7 * 3
    for job in detections:
        assert job.config is not None
        assert steps == job.config.SOLVER.MAX_ITER
        assert classes == job.config.MODEL.ROI_HEADS.NUM_CLASSES
        assert job.config.MODEL.DEVICE == "cuda"
    given = [job for job in made.jobs.values() if job.kind == "convert" and "supervised" in job.name]
    assert [job.arguments["source"] for job in given] == ["checkpoints/resnet50-0676ba61.pth"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"resnet50-0676ba61\.pth"):
        plan_anew(f"{name}.yaml")


def test_the_one_for_own_data_tunes_every_row_on_validation_images() -> None:
    made = plan("my_checkpoints.yaml")
    assert [init.name for init in made.matrix.inits] == ["random", "mine"]
    assert len([job for job in made.jobs.values() if job.kind == "detect"]) == 2 * 3 * 3  # rows, rates, seeds
    (detection,) = made.matrix.detections
    assert (detection.select_by, detection.report_on) == ("my_val", "my_test")
    assert [line for line in (CONFIGS / "my_checkpoints.yaml").read_text().splitlines() if "# HERE" in line][2:] == []


def test_what_sees_no_labels_is_said_to() -> None:
    for path in CONFIGS.glob("*.yaml"):
        for init in plan(path.name).matrix.inits:
            if init.loss:
                assert init.uses_labels == (init.loss not in ("info_nce", "dcl", "vicreg", "barlow_twins")), path.name
