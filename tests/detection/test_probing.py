"""The probes on a classification set, beside a detector."""

from __future__ import annotations

import logging

import pytest
import torch
from detectron2.config import CfgNode

from clop_det.annotations.datasets import load_dataset
from clop_det.detection import probing
from clop_det.detection.model import build_detector
from clop_det.detection.probing import Probes


def test_the_limits_bound_what_is_encoded(tiny_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_cfg.PROBE.MAX_BANK, tiny_cfg.PROBE.MAX_QUERIES, tiny_cfg.PROBE.BATCH_SIZE = 7, 5, 4
    tiny_cfg.PROBE.TASKS = ("knn",)
    model, encoded = build_detector(tiny_cfg), []

    def features(_: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        encoded.append(len(images))
        return images.mean((2, 3))

    monkeypatch.setattr(probing, "pooled_features", features)
    figures = Probes(tiny_cfg, [], {}).run(model, bf16=False)
    assert encoded == [4, 3, 4, 1]
    assert figures["probe/knn_top1"] * 5 == pytest.approx(round(figures["probe/knn_top1"] * 5))


def test_an_evaluation_without_training_images_has_no_object_probe(
    tiny_cfg: CfgNode, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_cfg.DATASETS.TRAIN = ("voc_2007_trainval",)  # registered, not there
    tiny_cfg.PROBE.TASKS = ("rankme", "objects")
    with caplog.at_level(logging.WARNING, "clop_det"):
        probes = Probes(tiny_cfg, None, {"": load_dataset("shapes_voc_test")})
    assert "no object probe, which learns from the training images" in caplog.text
    assert list(probes.run(build_detector(tiny_cfg), bf16=False)) == ["probe/rankme"]
