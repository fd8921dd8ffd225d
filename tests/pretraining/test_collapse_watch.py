from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from clop_det.commands.pretrain import main
from clop_det.config.reading import read_config
from clop_det.engine.metrics import read_metrics
from clop_det.errors import UserError
from clop_det.losses import build_loss
from clop_det.methods.single import Single
from clop_det.pretraining.collapse_watch import CollapseWatch, flat_note, report_critical_rate

from .conftest import arguments


class _Storage:
    def __init__(self) -> None:
        self.values: dict[str, tuple[float, int]] = {}

    def latest(self) -> dict[str, tuple[float, int]]:
        return self.values


class _Trainer:
    def __init__(self) -> None:
        self.iter, self.storage = 0, _Storage()


def watch_of(*options: str) -> tuple[CollapseWatch, _Trainer]:
    watch = CollapseWatch(read_config("", ["SOLVER.WARMUP_ITERS", "10", *options]))
    trainer = _Trainer()
    watch.trainer = trainer
    return watch, trainer


def look(watch: CollapseWatch, trainer: _Trainer, iteration: int, rankme: float, norm: float) -> None:
    trainer.iter = iteration
    trainer.storage.values = {"embedding_rankme": (rankme, iteration), "embedding_mean_norm": (norm, iteration)}
    watch.after_step()


def test_it_warns_once_and_again_after_a_recovery(caplog: pytest.LogCaptureFixture) -> None:
    watch, trainer = watch_of()
    with caplog.at_level(logging.INFO, "clop_det"):
        look(watch, trainer, 5, 1.0, 1.0)  # during warm-up
        assert not caplog.records
        look(watch, trainer, 20, 9.0, 0.2)
        look(watch, trainer, 40, 1.2, 0.2)
        look(watch, trainer, 60, 1.1, 0.99)
        look(watch, trainer, 80, 9.0, 0.2)
        look(watch, trainer, 100, 9.0, 0.99)
    told = [record.getMessage() for record in caplog.records]
    assert [message.split(":")[0] for message in told] == [
        "collapse begins at iteration 40",
        "iteration 80",
        "collapse begins at iteration 100",
    ]
    assert "RankMe of the embeddings 1.2 < COLLAPSE.MIN_RANKME 1.5" in told[0]
    assert "norm of the mean embedding 0.99 > COLLAPSE.MAX_MEAN_NORM 0.95" in told[2]


def test_a_norm_that_rounds_to_above_one_does_not_pass_a_check_that_is_off() -> None:
    watch, trainer = watch_of("COLLAPSE.MAX_MEAN_NORM", "1.0")
    look(watch, trainer, 20, 9.0, 1.0000000000000002)
    assert watch.count == 0


def test_figures_of_an_earlier_step_are_not_counted_twice() -> None:
    watch, trainer = watch_of()
    look(watch, trainer, 20, 1.0, 1.0)
    trainer.iter = 21
    watch.after_step()
    assert watch.state_dict() == {"count": 1}


@pytest.mark.parametrize(("stop", "lines", "ends"), [("True", 3, True), ("True", 2, False), ("False", 9, False)])
def test_it_stops_only_if_asked_and_patient(stop: str, lines: int, ends: bool) -> None:
    watch, trainer = watch_of("COLLAPSE.STOP", stop)
    saved: list[int] = []
    for line in range(lines):
        look(watch, trainer, 20 + line, 1.0, 1.0)
    if ends:
        with pytest.raises(UserError, match="3 times in a row up to iteration 22; the state is saved"):
            watch.stop_if_collapsed(lambda: saved.append(1))
    else:
        watch.stop_if_collapsed(lambda: saved.append(1))
    assert bool(saved) == ends


@pytest.mark.parametrize(("rate", "level"), [("51.1", logging.INFO), ("51.3", logging.WARNING)])
def test_the_critical_rate_is_that_of_a_mean_over_all_embeddings(
    rate: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """2 * 128 embeddings at temperature 0.2: 256 * 0.2 = 51.2."""
    cfg = read_config("", ["SOLVER.BASE_LR", rate, "SOLVER.IMS_PER_BATCH", "128"])
    with caplog.at_level(logging.INFO, "clop_det"):
        report_critical_rate(cfg, build_loss("clop", {"info_nce": {"TEMPERATURE": 0.2}}, 3, 8))
    (record,) = caplog.records
    assert record.levelno == level
    assert "the critical one, 51.2" in record.getMessage()


def test_an_attribute_called_temperature_means_nothing(caplog: pytest.LogCaptureFixture) -> None:
    loss = build_loss("vicreg", {}, 3, 8)
    loss.temperature = 1e-6
    with caplog.at_level(logging.INFO, "clop_det"):
        report_critical_rate(read_config("", []), loss)
    assert not caplog.records


def test_a_collapsed_run_warns_saves_and_stops(
    tmp_path: Path, tiny_options: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    embed = Single.embed
    drift = torch.zeros(8)
    drift[0] = 1e3
    monkeypatch.setattr(Single, "embed", lambda self, views: embed(self, views) + drift)
    options = [*tiny_options, "COLLAPSE.STOP", "True", "COLLAPSE.PATIENCE", "1", "TEST.EVAL_PERIOD", "0"]
    with pytest.raises(UserError, match="the embeddings have collapsed"):
        main(arguments(tmp_path / "run", options))
    line = read_metrics(tmp_path / "run")[-1]
    assert line["iteration"] == 3  # the first line after the warm-up of 2 iterations is that of the checkpoint
    assert line["embedding_rankme"] < 1.1
    assert line["embedding_mean_norm"] > 0.99
    assert (tmp_path / "run" / "model_0000003.pth").exists()
    assert "collapse begins at iteration 3" in (tmp_path / "run" / "log.txt").read_text()


def test_warnings_name_flat_images(caplog: pytest.LogCaptureFixture) -> None:
    """Black and grey images among others; without one the warning says nothing of them."""
    images = torch.randint(0, 256, (8, 3, 4, 4), dtype=torch.uint8)
    assert flat_note(images) == flat_note(None) == ""
    images[2:4] = 0
    images[5] = torch.tensor([9, 8, 7]).view(3, 1, 1)
    watch, trainer = CollapseWatch(read_config("", ["SOLVER.WARMUP_ITERS", "0"]), images), _Trainer()
    watch.trainer = trainer
    cfg = read_config("", ["SOLVER.BASE_LR", "1e9"])
    with caplog.at_level(logging.WARNING):
        look(watch, trainer, 1, 0.0, 1.0)
        report_critical_rate(cfg, build_loss("clop", {"info_nce": {"TEMPERATURE": 0.2}}, 3, 8), images)
    assert caplog.text.count("3 of 8 training images looked at are one flat colour") == 2
