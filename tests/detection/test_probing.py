"""The probes on a classification set, beside a detector."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode

from clop_det.detection import probing
from clop_det.detection.model import build_detector
from clop_det.detection.probing import classification_probes


def test_the_limits_bound_what_is_encoded(tiny_cfg: CfgNode, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_cfg.PROBE.MAX_BANK, tiny_cfg.PROBE.MAX_QUERIES, tiny_cfg.PROBE.BATCH_SIZE = 7, 5, 4
    model, encoded = build_detector(tiny_cfg), []

    def features(_: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        encoded.append(len(images))
        return images.mean((2, 3))

    monkeypatch.setattr(probing, "pooled_features", features)
    figures = classification_probes(tiny_cfg).run(model, bf16=False)
    assert encoded == [4, 3, 4, 1]
    assert figures["knn_top1"] * 5 == pytest.approx(round(figures["knn_top1"] * 5))
