"""A job's identity: what makes it run again, and what does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from clop_det import keys
from clop_det.annotations.datasets import forget
from clop_det.comparison.planning.config import load_compare_config
from clop_det.comparison.planning.earlier import earlier_runs
from clop_det.comparison.planning.identity import of_pretraining
from clop_det.comparison.planning.jobs import jobs_to_run, prepare_folder
from clop_det.comparison.planning.matrix import read_matrix
from clop_det.comparison.planning.plan import Plan, build_plan
from clop_det.config.content import content_of
from clop_det.config.imports import IMPORTED
from clop_det.config.reading import read_config
from clop_det.digests import Digests
from clop_det.engine.run_folder import claim_run_folder
from clop_det.errors import UserError
from clop_det.keys import DETECTION, PRETRAINING, Key
from clop_det.losses.registry import LOSSES
from clop_det.registry import Registry, in_use
from tests.comparison.workplace import Workplace, detect_config, pretrain_config


@pytest.fixture
def unrelated_loss() -> Iterator[None]:
    """A loss with an option that no config names."""
    LOSSES.register("unrelated", {"DEPTH": Key(3, "A depth.")})(lambda options, context: None)
    yield
    del LOSSES._entries["unrelated"], keys._DECLARED["LOSS.UNRELATED.DEPTH"]


@pytest.fixture
def scenes(tmp_path: Path) -> Iterator[Path]:
    """A COCO data set of three images with a box each, registered by `use_scenes` as `mine`."""
    folder = tmp_path / "data" / "scenes"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30), (number, 0, 0)).save(folder / "images" / f"{number}.png")
    write_annotations(folder, 3)
    yield folder
    forget("mine")


def write_annotations(folder: Path, boxes: int) -> None:
    images = [{"id": n, "file_name": f"{n}.png", "width": 40, "height": 30} for n in range(3)]
    entries = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 2, 10, 12]} for n in range(boxes)]
    content = {"images": images, "annotations": entries, "categories": [{"id": 1, "name": "thing"}]}
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))


def use_scenes(workplace: Workplace, folder: Path) -> None:
    config = yaml.safe_load(detect_config())
    entry = {"NAME": "mine", "LAYOUT": "coco", "ROOT": str(folder), "SPLIT": "train", "IMAGE_DIR": "images"}
    config["DATASETS"] = {
        "REGISTER": [*config["DATASETS"]["REGISTER"], entry],
        "TRAIN": ["mine"],
        "TEST": ["b"],
    }
    (workplace.folder / "detect.yaml").write_text(yaml.safe_dump(config))


def plan_of(workplace: Workplace) -> Plan:
    return build_plan(read_matrix(load_compare_config(workplace.config), workplace.folder))


def finish(workplace: Workplace) -> int:
    """Leave what finished jobs leave, for all that are not finished; returns how many these are."""
    plan = plan_of(workplace)
    assert not plan.unread
    left = jobs_to_run(plan.jobs, plan.root)
    for name in left:
        prepare_folder(plan.jobs[name], plan.root / name)
        (plan.root / name / "results.json").write_text("{}")
        if plan.jobs[name].product:
            (plan.root / name / plan.jobs[name].product).touch()
    return len(left)


def left(workplace: Workplace) -> list[str]:
    """The jobs that a start would run, without their digests."""
    plan = plan_of(workplace)
    return sorted(name.rsplit("-", 1)[0] for name in jobs_to_run(plan.jobs, plan.root))


def test_a_loss_that_is_not_in_use_makes_nothing_run_again(
    workplace: Workplace, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finish(workplace) == 6
    request.getfixturevalue("unrelated_loss")
    configs = [job.config for job in plan_of(workplace).jobs.values() if job.config is not None]
    assert all(cfg.LOSS.UNRELATED.DEPTH == 3 for cfg in configs)
    assert left(workplace) == []
    assert workplace.run("--dry-run") == 0
    assert "6 jobs, 0 to run" in capsys.readouterr().out


def test_a_run_that_has_begun_resumes_when_options_of_others_are_added_and_its_data_has_moved(
    workplace: Workplace, scenes: Path, request: pytest.FixtureRequest
) -> None:
    use_scenes(workplace, scenes)
    begun = {name: job for name, job in plan_of(workplace).jobs.items() if job.kind in ("pretrain", "detect")}
    for name, job in begun.items():
        prepare_folder(job, workplace.output / "jobs" / name)
        claim_run_folder(job.config, resume=False)
        (workplace.output / "jobs" / name / "model_0000003.pth").touch()
    request.getfixturevalue("unrelated_loss")
    moved = scenes.rename(scenes.parent / "elsewhere")
    use_scenes(workplace, moved)
    now = plan_of(workplace).jobs
    for name in begun:
        prepare_folder(now[name], workplace.output / "jobs" / name)
        assert claim_run_folder(now[name].config, resume=True).name == name


def test_of_losses_the_options_in_use_count_and_those_of_what_they_build_on() -> None:
    def content(*pairs: str) -> dict[str, Any]:
        return content_of(read_config("", list(pairs)), PRETRAINING)

    clop = content("LOSS.NAME", "clop")
    assert clop == content("LOSS.NAME", "clop", "LOSS.SUPCON.TEMPERATURE", "0.7")
    assert clop != content("LOSS.NAME", "clop", "LOSS.INFO_NCE.TEMPERATURE", "0.7")
    assert content("LOSS.NAME", "clop", "LOSS.CLOP.BASE", "supcon") != content(
        *("LOSS.NAME", "clop", "LOSS.CLOP.BASE", "supcon", "LOSS.SUPCON.TEMPERATURE", "0.7")
    )
    assert clop != content("LOSS.NAME", "clop", "LOSS.CLOP.WEIGHT", "0.7")


def test_the_keys_of_the_other_stage_and_places_do_not_count() -> None:
    plain, other = read_config("", []), read_config("", ["LOSS.NAME", "supcon", "AUGMENT.HUE", "0.2"])
    assert content_of(plain, DETECTION) == content_of(other, DETECTION)
    assert content_of(plain, PRETRAINING) != content_of(other, PRETRAINING)
    moved = read_config("", ["OUTPUT_DIR", "elsewhere", "CLASSIFICATION.ROOT", "elsewhere", "MODEL.WEIGHTS", "x.pth"])
    assert content_of(plain, DETECTION) == content_of(moved, DETECTION)
    assert content_of(plain, DETECTION) != content_of(read_config("", ["SOLVER.BASE_LR", "0.7"]), DETECTION)


def test_what_several_registries_name_is_in_use() -> None:
    tasks: Registry[int] = Registry("task", "TASK", (PRETRAINING,), "TASKS")
    for number, name in enumerate(("one", "two", "three")):
        tasks.register(name)(number)  # type: ignore[arg-type]
    chosen = {name for kind, name in in_use({"TASKS": ["one", "three"]}, PRETRAINING) if kind == "task"}
    assert chosen == {"one", "three"}
    assert not in_use({"TASKS": ["one"]}, DETECTION)
    # Of a name that belongs to no entry nobody can tell: all count.
    assert len([1 for kind, _ in in_use({"TASKS": "four"}, PRETRAINING) if kind == "task"]) == 3
    assert not in_use({}, PRETRAINING)


def test_cut_annotations_make_the_jobs_that_read_them_run_again(workplace: Workplace, scenes: Path) -> None:
    use_scenes(workplace, scenes)
    assert finish(workplace) == 6
    write_annotations(scenes, 1)
    assert left(workplace) == [
        "detect-scenes-clop-10pct-s0",
        "detect-scenes-random-s0",
        "inspect-scenes-clop-10pct-s0",
        "inspect-scenes-random-s0",
    ]
    plan = plan_of(workplace)
    (line,) = earlier_runs(plan.jobs, jobs_to_run(plan.jobs, plan.root), plan.root)
    assert line.endswith("2 jobs ran here before under another identity and run again; what differs: data set mine")
    finish(workplace)
    (scenes / "images" / "1.png").write_bytes((scenes / "images" / "1.png").read_bytes() + b"more")
    assert finish(workplace) == 4
    (scenes / "images" / "unlisted.png").touch()
    assert left(workplace) == []


def test_moved_data_makes_nothing_run_again(workplace: Workplace, scenes: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "data" / "pictures"
    for split, name, shade in (("train", "x", 10), ("train", "y", 20), ("val", "x", 30), ("val", "y", 40)):
        (pictures / split / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (shade, 0, 0)).save(pictures / split / name / "0.png")

    def use(root: Path, shown: Path) -> None:
        use_scenes(workplace, root)
        text = pretrain_config().replace("digits://cluttered?train=20&val=10", str(shown))
        (workplace.folder / "pretrain.yaml").write_text(text)

    use(scenes, pictures)
    assert finish(workplace) == 6
    moved = tmp_path / "other place"
    shutil.move(tmp_path / "data", moved)
    use(moved / "scenes", moved / "pictures")
    assert left(workplace) == []
    # What a pretraining reads counts for what is built on it, and for nothing else.
    (moved / "pictures" / "train" / "x" / "0.png").rename(moved / "pictures" / "train" / "x" / "1.png")
    again = left(workplace)
    assert len(again) == 4
    assert all("clop" in name for name in again)
    finish(workplace)
    shutil.copy(moved / "pictures" / "val" / "y" / "0.png", moved / "pictures" / "val" / "y" / "1.png")
    assert len(left(workplace)) == 4


def test_data_that_cannot_be_read_is_refused_before_anything_runs(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    use_scenes(workplace, workplace.folder / "absent")
    with pytest.raises(UserError, match="data set mine: data root .*absent"):
        workplace.run()
    assert not workplace.output.exists()
    assert workplace.run("--dry-run") == 0
    assert "note: data set mine: data root" in capsys.readouterr().out
    assert workplace.run("--only", "pretrain*") == 0  # which does not read them


def test_a_file_of_imports_counts_unless_all_it_registers_is_not_in_use(tmp_path: Path) -> None:
    (tmp_path / "lab_losses.py").write_text(
        "from clop_det.losses import register_loss\n@register_loss('lab')\ndef lab(options, context): ...\n"
    )
    (tmp_path / "lab_patch.py").write_text("SIZE = 3\n")
    imports = [str(tmp_path / "lab_losses.py"), str(tmp_path / "lab_patch.py")]
    before = dict(IMPORTED)
    try:
        files = {}
        for loss in ("clop", "lab"):
            options = ["CLASSIFICATION.ROOT", "digits://cluttered", "LOSS.NAME", loss, "IMPORTS", str(imports)]
            cfg = read_config("", options)
            files[loss] = {name for name in of_pretraining(cfg, Digests()).code_files() if "lab_" in name}
    finally:
        del LOSSES._entries["lab"]
        IMPORTED.clear()
        IMPORTED.update(before)
    assert files == {"clop": {"lab_patch.py"}, "lab": {"lab_losses.py", "lab_patch.py"}}
