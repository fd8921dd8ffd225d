"""Fractions of the training images: nested, frozen, and refused where they do not fit."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from detectron2.config import CfgNode

from clop_det import api
from clop_det.annotations.fractions import choose, draw, image_keys, load_split, save_split
from clop_det.commands.train import main
from clop_det.detection.class_table import class_counts, remarks
from clop_det.detection.loader import candidate_records, training_records
from clop_det.detection.run_data import check_data
from clop_det.errors import UserError
from clop_det.files import read_json
from tests.detection.conftest import CLASSES, CONFIG

KEYS = [f"set/{i}" for i in range(200)]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_larger_fraction_contains_the_smaller(seed: int) -> None:
    shares = (0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
    parts = [draw(1000, share, seed) for share in shares]
    assert [len(part) for part in parts] == [10, 20, 50, 100, 500, 1000]
    for small, large in pairwise(parts):
        assert set(small) < set(large)
        assert large == sorted(set(large))


def test_the_draw_is_a_function_of_the_seed_and_uniform() -> None:
    assert draw(1000, 0.1, 3) == draw(1000, 0.1, 3)
    assert draw(1000, 0.1, 3) != draw(1000, 0.1, 4)
    hits = [0] * 20
    for seed in range(2000):
        for index in draw(20, 0.25, seed):
            hits[index] += 1
    # Binomial(2000, 1/4): mean 500, standard deviation 19.4.
    assert all(abs(count - 500) < 5 * 19.4 for count in hits)


def test_at_least_one_image_remains() -> None:
    assert len(draw(7, 0.01, 0)) == 1


def test_a_frozen_choice_comes_back(tmp_path: Path) -> None:
    save_split(tmp_path / "s.json", KEYS, [3, 17, 99], fraction=0.015, seed=4)
    assert load_split(tmp_path / "s.json", KEYS) == [3, 17, 99]
    assert read_json(tmp_path / "s.json")["chosen"] == ["set/3", "set/17", "set/99"]


def test_a_list_names_images_by_id_or_data_set_and_id(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("17\n\nset/3\n")
    assert load_split(tmp_path / "list.txt", KEYS) == [3, 17]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.json", "{}", "is no training split"),
        ("s.json", "[1", "cannot read"),
        ("s.txt", "\n", "holds no line"),
        ("s.txt", "999\n", "'999', which is none of the 200 training images"),
        ("s.txt", "set/999\n", "which is none"),
    ],
)
def test_files_that_are_no_choice(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        load_split(tmp_path / name, KEYS)
    with pytest.raises(UserError, match="cannot read"):
        load_split(tmp_path / "absent.txt", KEYS)


def test_an_id_that_two_data_sets_share_is_ambiguous(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("7\n")
    with pytest.raises(UserError, match="fits 2 images"):
        load_split(tmp_path / "list.txt", ["a/7", "b/7"])


def test_a_choice_for_other_images_is_refused(tmp_path: Path) -> None:
    save_split(tmp_path / "s.json", KEYS, [3], fraction=0.005, seed=0)
    with pytest.raises(UserError, match="made for another list of 200 images than the 201"):
        load_split(tmp_path / "s.json", [*KEYS, "set/new"])


def test_file_and_fraction_must_agree(tiny_cfg: CfgNode, tmp_path: Path) -> None:
    save_split(tmp_path / "s.json", KEYS, list(range(20)), fraction=0.1, seed=0)
    tiny_cfg.DATASETS.TRAIN_SPLIT_FILE = str(tmp_path / "s.json")
    assert choose(tiny_cfg, KEYS) == list(range(20))
    tiny_cfg.DATASETS.TRAIN_FRACTION = 0.1
    assert choose(tiny_cfg, KEYS) == list(range(20))
    tiny_cfg.DATASETS.TRAIN_FRACTION = 0.2
    with pytest.raises(UserError, match=r"TRAIN_FRACTION is 0\.2, but .* chooses 20 of 200"):
        choose(tiny_cfg, KEYS)


def test_a_data_set_that_is_named_twice_cannot_be_divided(
    tiny_options: list[str], tmp_path: Path, untrained: None
) -> None:
    folder, twice = tmp_path / "run", ("shapes_voc_train", "shapes_voc_train")
    with pytest.raises(UserError, match=r"needs each of them once, but shapes_voc_train/train_00 is there 2 times"):
        main(command(tiny_options, folder, DATASETS__TRAIN=twice, DATASETS__TRAIN_FRACTION=0.5))
    assert not folder.exists()
    assert main(command(tiny_options, folder, DATASETS__TRAIN=twice)) == 0  # whole, it may be repeated


def test_the_training_images_are_the_chosen_ones(tiny_cfg: CfgNode) -> None:
    everything = candidate_records(tiny_cfg)
    assert list(training_records(tiny_cfg)) == list(everything)
    tiny_cfg.DATASETS.TRAIN_FRACTION = 0.25
    few = training_records(tiny_cfg)
    assert len(few) == 3
    tiny_cfg.DATASETS.TRAIN_FRACTION = 0.5
    assert set(image_keys(few)) < set(image_keys(training_records(tiny_cfg))) < set(image_keys(everything))


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command up to where its workers would start: all that is read, refused and written before."""
    monkeypatch.setattr(api, "launch_workers", lambda worker, cfg, args: None)


def command(options: list[str], folder: Path, *flags: str, **changes: Any) -> list[str]:
    values = {"OUTPUT_DIR": folder, **{key.replace("__", "."): value for key, value in changes.items()}}
    return ["--config-file", CONFIG, *flags, *options, *(str(x) for pair in values.items() for x in pair)]


def test_a_run_freezes_its_choice_and_resumes_with_no_other(
    tiny_options: list[str], tmp_path: Path, untrained: None
) -> None:
    folder = tmp_path / "run"
    assert main(command(tiny_options, folder, DATASETS__TRAIN_FRACTION=0.25)) == 0
    frozen = read_json(folder / "train_split.json")
    assert (frozen["images"], frozen["chosen_images"], frozen["seed"]) == (12, 3, 0)
    before = (folder / "train_split.json").read_bytes()
    assert main(command(tiny_options, folder, "--resume", DATASETS__TRAIN_FRACTION=0.25)) == 0
    assert (folder / "train_split.json").read_bytes() == before
    frozen["chosen"][0] = next(
        k for k in (f"shapes_voc_train/train_{i:02d}" for i in range(12)) if k not in frozen["chosen"]
    )
    (folder / "train_split.json").write_text(json.dumps(frozen))
    with pytest.raises(UserError, match=r"train_split\.json is another choice of 3 images"):
        main(command(tiny_options, folder, "--resume", DATASETS__TRAIN_FRACTION=0.25))


def test_the_start_says_how_many_images_and_what_they_lack(tiny_cfg: CfgNode) -> None:
    first, second = check_data(tiny_cfg)
    assert first == "training on all 12 images of shapes_voc_train"
    assert second.startswith("no image of shapes_voc_test is among those learnt from (12 of shapes_voc_train, 30 of")
    tiny_cfg.DATASETS.TRAIN_FRACTION = 0.01
    first, _ = check_data(tiny_cfg)
    assert first == "training on 1 of 12 images of shapes_voc_train (chosen by DATASETS.TRAIN_FRACTION 0.01, SEED 0)"
    classes = {CLASSES[a["category_id"]] for a in training_records(tiny_cfg)[0]["annotations"]}
    absent = ", ".join(c for c in CLASSES if c not in classes)
    assert any(
        found.startswith(f"no training image has a box of {absent}; ")
        for found, _ in remarks(tiny_cfg, *class_counts(tiny_cfg))
    )


def test_all_images_leave_no_split_file(tiny_options: list[str], tmp_path: Path, untrained: None) -> None:
    assert main(command(tiny_options, tmp_path / "run")) == 0
    assert not (tmp_path / "run" / "train_split.json").exists()


def test_a_bad_fraction_is_refused_before_anything_is_written(tiny_options: list[str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="TRAIN_FRACTION is 2"):
        main(command(tiny_options, tmp_path / "run", DATASETS__TRAIN_FRACTION=2))
    assert not (tmp_path / "run").exists()
