from __future__ import annotations

import logging

import pytest
from detectron2.utils.events import EventStorage

import clop_det.probes.tasks  # noqa: F401  (registers the figures)
from clop_det.engine.progress import ProgressLine


def test_the_line_says_everything(caplog: pytest.LogCaptureFixture) -> None:
    with EventStorage(0) as storage, caplog.at_level(logging.INFO, "clop_det"):
        storage.put_scalars(smoothing_hint=False, **{"probe/knn_top1": 0.4321, "probe/rankme": 23.14})
        storage.iter = 39
        storage.put_scalars(time=0.5)
        storage.put_scalars(smoothing_hint=False, loss_info_nce=3.25, loss_prototype_pull=0.75, total_loss=4.0, lr=0.06)
        ProgressLine(100, batch=128).write()
    assert caplog.records[-1].getMessage() == (
        "40/100  eta 0:00:30  256 images/s  loss 4 (info_nce 3.25 + prototype_pull 0.75)  "
        "lr 0.06  kNN 0.432  RankMe 23.1"
    )
    assert storage.latest()["eta_seconds"][0] == 30
    assert storage.latest()["images_per_second"][0] == 256


def test_the_first_line_has_no_speed_yet(caplog: pytest.LogCaptureFixture) -> None:
    with EventStorage(0) as storage, caplog.at_level(logging.INFO, "clop_det"):
        storage.put_scalars(smoothing_hint=False, loss_vicreg=2.0, total_loss=2.0)
        ProgressLine(100, batch=128).write()
        assert "eta_seconds" not in storage.latest()
    assert caplog.records[-1].getMessage() == "1/100  loss 2 (vicreg 2)"


def test_nothing_after_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with EventStorage(100), caplog.at_level(logging.INFO, "clop_det"):
        ProgressLine(100, batch=128).write()
    assert not caplog.records
