from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from clop_det.config.content import content_of
from clop_det.config.reading import read_config
from clop_det.data.opening import list_images, open_images, probe_indices
from clop_det.data.streaming import ImageStream
from clop_det.keys import DETECTION, PRETRAINING

LABELS = torch.tensor([2, -1, 0, 1, 1, -1, 0, 2] * 10)
LABELLED = (LABELS >= 0).nonzero().view(-1)


def test_without_a_limit_a_probe_uses_every_labelled_image() -> None:
    for limit in (0, len(LABELLED), 1000):
        assert torch.equal(probe_indices(LABELS, limit), LABELLED)


def test_a_limit_is_a_sorted_subset_that_follows_seed_and_purpose_alone() -> None:
    chosen = probe_indices(LABELS, 20, seed=3)
    assert len(chosen) == 20
    assert bool(torch.isin(chosen, LABELLED).all())
    assert bool((chosen.diff() > 0).all())
    assert torch.equal(chosen, probe_indices(LABELS, 20, seed=3))
    assert not torch.equal(chosen, probe_indices(LABELS, 20, seed=4))
    assert not torch.equal(chosen, probe_indices(LABELS, 20, seed=3, purpose="probe queries"))
    assert torch.isin(probe_indices(LABELS, 10, seed=3), chosen).all()  # a smaller limit is part of a larger


@pytest.mark.parametrize("crops", ["exact", "fast"])
def test_the_config_says_how_streamed_crops_are_cut(tmp_path: Path, crops: str) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    Image.radial_gradient("L").save(tmp_path / "train" / "a" / "x.jpg")
    options = ["CLASSIFICATION.ROOT", str(tmp_path), "CLASSIFICATION.IMAGE_SIZE", "128"]
    options += ["CLASSIFICATION.EVAL_SPLIT", "train", "CLASSIFICATION.STREAM_CROPS", crops]
    cfg = read_config("", options)
    stream = open_images(cfg.CLASSIFICATION, list_images(cfg.CLASSIFICATION, "train"))
    assert isinstance(stream, ImageStream)
    assert stream.crops == crops
    # A pretraining is another one; what a detection reads is decoded in full whatever it says.
    assert content_of(cfg, PRETRAINING)["CLASSIFICATION.STREAM_CROPS"] == crops
    assert "CLASSIFICATION.STREAM_CROPS" not in content_of(cfg, DETECTION)
