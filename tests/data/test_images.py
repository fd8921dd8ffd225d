"""Images read by offset: what a tensor's indexing gives, and nothing beyond the file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clop_det.data.images import ResidentImages, StoredImages, Subset
from clop_det.errors import UserError

PIXELS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4), dtype=np.uint8))


@pytest.fixture
def images(tmp_path: Path) -> StoredImages:
    (tmp_path / "images.u8").write_bytes(PIXELS.numpy().tobytes())
    return StoredImages(tmp_path / "images.u8", (20, 3, 4, 4))


@given(indices=st.lists(st.integers(0, 19), max_size=30))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_indices_give_what_a_tensor_gives(images: StoredImages, indices: list[int]) -> None:
    chosen = torch.tensor(indices, dtype=torch.int64)
    assert torch.equal(images[chosen], PIXELS[chosen])
    assert torch.equal(Subset(images, chosen)[2:9], PIXELS[chosen][2:9])


@pytest.mark.parametrize("index", [slice(None), slice(3, 7), slice(18, 40), slice(0, 20, 3), slice(5, 5), 0, 19, -1])
def test_slices_and_numbers_give_what_a_tensor_gives(images: StoredImages, index: slice | int) -> None:
    assert torch.equal(images[index], PIXELS[index])
    assert torch.equal(Subset(images, torch.arange(20))[index], PIXELS[index])


def test_outside_is_an_error(images: StoredImages) -> None:
    for index in (torch.tensor([3, 20]), torch.tensor([-1])):
        with pytest.raises(IndexError, match="of 20"):
            images[index]


def test_a_file_that_shrinks_is_named(images: StoredImages, tmp_path: Path) -> None:
    os.truncate(tmp_path / "images.u8", 500)
    with pytest.raises(UserError, match="images.u8 has become shorter"):
        images[:]


def test_images_that_stay_on_a_device_are_the_same(images: StoredImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clop_det.data.images._COPIED_AT_ONCE", 7)
    kept = ResidentImages(images, torch.device("cpu"))
    assert (len(kept), kept.shape) == (20, images.shape)
    for index in (torch.tensor([3, 0, 19, 3]), slice(4, 9), 11):
        assert torch.equal(kept[index], PIXELS[index])
    assert images.near(torch.device("cpu")) is images
