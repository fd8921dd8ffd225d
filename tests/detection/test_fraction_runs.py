"""A run on a fraction of the training images: the same ones to its end, whatever happens on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clop_det.annotations.fractions import image_keys
from clop_det.commands.train import main
from clop_det.detection import trainer as trainer_module
from clop_det.detection.trainer import DetectionTrainer
from clop_det.files import read_json
from tests.detection.runs import Crash, command, same_weights

QUICK: dict[str, Any] = {"TEST__EVAL_PERIOD": 0, "TEST__PICTURES": 0, "PROBE__ENABLED": False}
CHANGES: dict[str, Any] = {"DATASETS__TRAIN_FRACTION": 0.25, **QUICK}


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The keys of the images that each training loader of the test draws from."""
    seen: list[list[str]] = []
    build = trainer_module.train_loader

    def spy(cfg: Any, records: Any, *rest: Any, **named: Any) -> Any:
        seen.append(image_keys(records))
        return build(cfg, records, *rest, **named)

    monkeypatch.setattr(trainer_module, "train_loader", spy)
    return seen


def test_a_killed_run_goes_on_with_the_images_that_it_froze(
    tiny_options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fed: list[list[str]]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(command(tiny_options, whole, **CHANGES)) == 0
    step = DetectionTrainer.run_step

    def crashing(self: DetectionTrainer) -> None:
        if self.iter == 4:
            raise Crash
        step(self)

    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(DetectionTrainer, "run_step", crashing)
        main(command(tiny_options, killed, **CHANGES))
    frozen = (killed / "train_split.json").read_bytes()
    assert main(command(tiny_options, killed, "--resume", **CHANGES)) == 0
    chosen = read_json(killed / "train_split.json")["chosen"]
    assert (len(chosen), fed) == (3, [chosen] * 3)
    assert (killed / "train_split.json").read_bytes() == frozen == (whole / "train_split.json").read_bytes()
    assert (killed / "metrics.json").read_bytes() == (whole / "metrics.json").read_bytes()
    assert same_weights(whole, killed)


def test_another_run_takes_the_same_images_from_the_frozen_file(
    tiny_options: list[str], tmp_path: Path, fed: list[list[str]]
) -> None:
    assert main(command(tiny_options, tmp_path / "one", SEED=5, SOLVER__MAX_ITER=1, **CHANGES)) == 0
    given = {"DATASETS__TRAIN_SPLIT_FILE": tmp_path / "one" / "train_split.json", "SOLVER__MAX_ITER": 1}
    assert main(command(tiny_options, tmp_path / "two", SEED=6, **QUICK, **given)) == 0
    assert len(fed) == 2
    assert fed[0] == fed[1]
    assert len(fed[0]) == 3
