"""Unreadable images: fail, or replaced by the next of their class, counted, logged, bounded; stored and streamed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from clop_det.data.augment import AugmentSettings, ViewAugmentation
from clop_det.data.decoding import centre_square
from clop_det.data.image_list import ImageList
from clop_det.data.layouts import read_images
from clop_det.data.store import open_store
from clop_det.data.streaming import open_stream
from clop_det.data.unreadable import Unreadable
from clop_det.data.views import ViewPlan
from clop_det.errors import UserError
from tests import stand_ins

REPLACE = Unreadable("replace", 0.4)
CPU = torch.device("cpu")


@pytest.fixture
def listed(tmp_path: Path) -> ImageList:
    """Classes a (0..4) and b (5..9); 1 and 2 are damaged, 9 is gone."""
    for name in "ab":
        for index in range(5):
            stand_ins.save(tmp_path / "data" / "train" / name / f"{index}.jpg", 16, wide=index)
    images = read_images("folder", tmp_path / "data", "train")
    for index in (1, 2):
        path = images.root / images.files[index]
        path.write_bytes(path.read_bytes()[:100])
    (images.root / images.files[9]).unlink()
    return images


def test_the_next_of_the_class_stands_in(listed: ImageList, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(listed, 8, tmp_path / "stores", REPLACE)
    assert store.replaced == {1: 3, 2: 3, 9: 5}
    for index, other in store.replaced.items():
        assert np.array_equal(store.images[index].numpy(), centre_square(listed.source.image(other), 8))
    assert "3 of 10 images cannot be read and are replaced: train/a/1.jpg by train/a/3.jpg" in caplog.text
    caplog.clear()
    assert open_store(listed, 8, tmp_path / "stores", REPLACE).folder == store.folder
    assert "3 of 10" in caplog.text  # said again by every run that uses them


def test_a_store_with_replacements_is_not_opened_by_a_run_that_fails_on_them(listed: ImageList, tmp_path: Path) -> None:
    open_store(listed, 8, tmp_path / "stores", REPLACE)
    with pytest.raises(UserError, match="cannot read image .*b/4.jpg"):
        open_store(listed, 8, tmp_path / "stores")


@pytest.mark.parametrize("built", [False, True])
def test_more_than_the_bound_fails(listed: ImageList, tmp_path: Path, built: bool) -> None:
    if built:
        open_store(listed, 8, tmp_path / "stores", REPLACE)
    with pytest.raises(UserError, match=r"3 of 10 images cannot be read \(train/a/1.jpg, .* more than the 2"):
        open_store(listed, 8, tmp_path / "stores", Unreadable("replace", 0.25))


def test_a_class_without_a_readable_image_fails(listed: ImageList, tmp_path: Path) -> None:
    for index in (0, 3, 4):
        (listed.root / listed.files[index]).write_bytes(b"")
    with pytest.raises(UserError, match="No other image of its class can be read"):
        open_store(listed, 8, tmp_path / "stores", Unreadable("replace", 0.9))


@pytest.mark.parametrize("workers", [0, 1])
def test_streaming_replaces_counts_and_is_bounded(
    listed: ImageList, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    settings = AugmentSettings(crop_scale=(1.0, 1.0), jitter_prob=0.0, grey_prob=0.0, flip_prob=0.0)
    plan = ViewPlan(ViewAugmentation(settings, 8, [0] * 3, [255] * 3), 0, 10, 10)
    stream = open_stream(listed, 8, workers, REPLACE)
    views = stream.views(plan, CPU)(0).stacked
    assert stream.replacements.replaced == {1: 3, 2: 3, 9: 5}
    assert "3 of 10 images cannot be read" in caplog.text
    indices = plan.indices(0).tolist()
    torch.testing.assert_close(views[indices.index(1)], views[indices.index(3)])
    caplog.clear()
    stream.views(plan, CPU)(1)
    assert caplog.text == ""  # nothing new
    with pytest.raises(UserError, match="more than the 2"):
        open_stream(listed, 8, workers, Unreadable("replace", 0.25)).views(plan, CPU)(0)
    with pytest.raises(UserError, match="cannot read image"):
        open_stream(listed, 8, workers).views(plan, CPU)(0)


def test_probes_of_streamed_images_count_too(listed: ImageList) -> None:
    stream = open_stream(listed, 8, 0, REPLACE)
    assert torch.equal(stream.images[9], stream.images[5])
    assert stream.replacements.replaced == {9: 5}
    with pytest.raises(UserError, match="cannot read image .*a/1.jpg"):
        open_stream(listed, 8).images[torch.arange(3)]
