"""The data of a run: visible labels as LABELS.* says, recorded, checked on resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from clop_det.commands.pretrain import main
from clop_det.config.reading import read_config
from clop_det.errors import UserError
from clop_det.files import read_json
from clop_det.pretraining.data import SPLIT_NAME, BatchSource, log_data, open_data, record_split

from .conftest import BASE_CONFIG, write_images


def _open(options: list[str]):  # type: ignore[no-untyped-def]
    cfg = read_config(BASE_CONFIG, options)
    return cfg, open_data(cfg)


def test_noise_reaches_the_loss_and_not_the_probes(tiny_options: list[str], tmp_path: Path) -> None:
    options = [*tiny_options, "OUTPUT_DIR", str(tmp_path)]
    _, clean = _open(options)
    cfg, noisy = _open([*options, "LABELS.NOISE", "0.25"])
    assert torch.equal(noisy.labelled, clean.labelled)
    assert torch.equal(noisy.train.labels, clean.train.labels)
    changed = noisy.visible_labels != clean.visible_labels
    assert changed.sum() == 3
    assert (noisy.visible_labels[changed] >= 0).all()
    record_split(cfg, noisy)
    content = read_json(tmp_path / SPLIT_NAME)
    assert (content["noise"], content["imbalance"], len(content["told"])) == (0.25, 1.0, 3)
    record_split(cfg, clean)  # nothing has begun: written anew
    assert "told" not in read_json(tmp_path / SPLIT_NAME)
    record_split(cfg, noisy)
    (tmp_path / "model_0000001.pth").touch()
    record_split(cfg, noisy)  # the same again
    with pytest.raises(UserError, match="another label split"):
        record_split(cfg, clean)


def test_imbalance_thins_out_the_visible_labels(tiny_options: list[str]) -> None:
    cfg, data = _open([*tiny_options, "LABELS.IMBALANCE", "4"])
    assert sorted(torch.bincount(data.visible.told).tolist()) == [1, 2, 4]
    assert data.label_share(cfg) == round(7 / 24, 6)  # not LABELS.FRACTION, 0.5


def test_a_given_split_takes_noise_once(tiny_options: list[str], tmp_path: Path) -> None:
    options = [*tiny_options, "OUTPUT_DIR", str(tmp_path)]
    cfg, noisy = _open([*options, "LABELS.NOISE", "0.25"])
    record_split(cfg, noisy)
    given = [*options, "LABELS.SPLIT_FILE", str(tmp_path / SPLIT_NAME)]
    assert torch.equal(_open(given)[1].visible_labels, noisy.visible_labels)
    with pytest.raises(UserError, match="holds wrong labels already"):
        _open([*given, "LABELS.NOISE", "0.25"])
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(noisy.listed.files[index] for index in noisy.labelled.tolist()))
    by_list = [*options, "LABELS.SPLIT_FILE", str(listed)]
    assert torch.equal(_open([*by_list, "LABELS.NOISE", "0.25"])[1].visible_labels, noisy.visible_labels)
    assert torch.equal(
        _open(by_list)[1].visible_labels, noisy.visible.masked(24).where(noisy.visible_labels < 0, noisy.train.labels)
    )


def test_a_count_per_class(tiny_options: list[str]) -> None:
    cfg, data = _open([*tiny_options, "LABELS.PER_CLASS", "2"])
    assert torch.bincount(data.visible.told).tolist() == [2, 2, 2]
    assert data.label_share(cfg) == 6 / 24  # what results.json and the checkpoint say, whatever LABELS.FRACTION is


def test_a_split_without_labels_is_refused_unless_nothing_is_probed(tiny_options: list[str], tmp_path: Path) -> None:
    write_images(tmp_path, "train", 2, 4)
    rows = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.png"))]
    for split, labels in (("train", ["a"] * 4 + ["b"] * 4), ("val", [""] * 8)):
        lines = [f"{row},{label}" for row, label in zip(rows, labels, strict=True)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["path,label", *lines]))
    options = [*tiny_options, "CLASSIFICATION.LAYOUT", "csv", "CLASSIFICATION.ROOT", str(tmp_path)]
    with pytest.raises(UserError, match=r"CLASSIFICATION\.EVAL_SPLIT val of .* has no labelled image"):
        _open(options)
    assert _open([*options, "PROBE.ENABLED", "False"])[1].evaluated is None


@pytest.mark.parametrize("layout", ["folder", "csv"])
def test_images_without_labels_train_a_loss_without_labels(
    tiny_options: list[str], tmp_path: Path, layout: str, caplog: pytest.LogCaptureFixture
) -> None:
    write_images(tmp_path, "made", 1, 8)
    (tmp_path / "made" / "class0").rename(tmp_path / "train")
    names = [f"train/{path.name}," for path in sorted((tmp_path / "train").iterdir())]
    (tmp_path / "train.csv").write_text("\n".join(["path,label", *names]))
    options = [*tiny_options, "CLASSIFICATION.ROOT", str(tmp_path), "CLASSIFICATION.LAYOUT", layout]
    options += ["PROBE.ENABLED", "False", "SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "0"]
    with pytest.raises(UserError, match="LOSS.NAME clop needs labels, but no image of train"):
        main(["--config-file", BASE_CONFIG, *options, "LOSS.NAME", "clop", "OUTPUT_DIR", str(tmp_path / "refused")])
    assert not (tmp_path / "refused").exists()
    folder = tmp_path / "run"
    assert main(["--config-file", BASE_CONFIG, *options, "LOSS.NAME", "info_nce", "OUTPUT_DIR", str(folder)]) == 0
    assert "8 training images, 0 of them labelled, 0 labels visible to the loss; 0 classes: none" in (
        (folder / "log.txt").read_text()
    )
    with pytest.raises(UserError, match="no (split folder|table) .*val.*PROBE.ENABLED False goes without"):
        _open([*options, "PROBE.ENABLED", "True", "LOSS.NAME", "info_nce"])


def test_a_class_without_an_evaluation_image_is_named(tmp_path: Path, tiny_options: list[str], caplog: Any) -> None:
    write_images(tmp_path, "train", 3, 4)
    write_images(tmp_path, "val", 2, 4)
    data = _open([*tiny_options, "CLASSIFICATION.ROOT", str(tmp_path)])[1]
    log_data(data, "val")
    assert "1 of 3 classes have no image in CLASSIFICATION.EVAL_SPLIT val: class2" in caplog.text


@pytest.mark.parametrize("loss", ["clop", "supcon", "cross_entropy"])
def test_a_run_with_noise_and_imbalance_ends(tiny_options: list[str], tmp_path: Path, loss: str) -> None:
    options = [*tiny_options, "LABELS.NOISE", "0.2", "LABELS.IMBALANCE", "2", "LOSS.NAME", loss]
    short = ["SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "0", "OUTPUT_DIR", str(tmp_path / "run")]
    assert main(["--config-file", BASE_CONFIG, *options, *short]) == 0
    assert read_json(tmp_path / "run" / SPLIT_NAME)["imbalance"] == 2


@pytest.mark.parametrize("how", [(), ("CLASSIFICATION.STORE_MAX_SIZE", "0", "DATALOADER.NUM_WORKERS", "2")])
def test_batches_that_are_read_ahead_are_those_read_alone(how: tuple[str, ...], tiny_options: list[str]) -> None:
    cfg, data = _open([*tiny_options, *how])
    batches = BatchSource(cfg, data)
    for iteration in (0, 1, 2, 3, 9, 10, 11, 4):
        views, labels = batches(iteration)
        alone, expected = BatchSource(cfg, data)(iteration)
        assert torch.equal(views.pixels, alone.pixels)
        assert torch.equal(views.boxes, alone.boxes)
        assert torch.equal(labels, expected)
