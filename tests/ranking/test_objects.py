from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clop_det.errors import UserError
from clop_det.ranking.objects import choose_objects


@pytest.fixture
def records(tmp_path: Path) -> list[dict[str, Any]]:
    """Six grey pictures of 60 x 40, each with eight white squares of its own size on black, of two classes."""
    made = []
    for index in range(6):
        pixels, entries, side = np.zeros((40, 60, 3), dtype=np.uint8), [], 4 + index
        for k in range(8):
            x, y = 2 + 14 * (k % 4), 2 + 18 * (k // 4)
            pixels[y : y + side, x : x + side] = 255
            entries.append({"bbox": [x, y, x + side, y + side], "bbox_mode": 0, "category_id": k % 2})
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        made.append({"file_name": str(tmp_path / f"{index}.png"), "width": 60, "height": 40, "annotations": entries})
    return made


def choose(records: list[dict[str, Any]], limit: int = 48, seed: int = 0):  # type: ignore[no-untyped-def]
    return choose_objects(records, limit, 64, torch.Generator().manual_seed(seed))


def test_an_image_gives_its_share_and_the_boxes_are_those_of_the_image(records: list[dict[str, Any]]) -> None:
    found = choose(records, 1000)
    assert len(found) == 48  # all there are: an image may give 40
    assert torch.bincount(found.images).tolist() == [8] * 6
    assert (found.crops[:, :, 24:40, 24:40] == 255).all()  # the inner part of a box is white alone
    with pytest.raises(UserError, match="give 12 boxes"):
        choose(records, 40)  # two an image


def test_the_place_is_where_the_white_square_lies_in_the_window(records: list[dict[str, Any]]) -> None:
    found = choose(records, 1000)
    for window, (x, y, wide, high) in zip(found.windows, found.places.tolist(), strict=True):
        assert window.shape == (3, 64, 64)
        for centre, size in ((x, wide), (y, high)):
            assert math.exp(size) / 2 - 1e-9 <= centre <= 1 - math.exp(size) / 2 + 1e-9
        assert window[0, min(63, int(64 * y)), min(63, int(64 * x))] > 200
    assert found.places.std(0).min() > 0.05


def test_the_choice_is_a_function_of_the_seed(records: list[dict[str, Any]]) -> None:
    one, same, other = choose(records, 1000), choose(records, 1000), choose(records, 1000, seed=1)
    assert torch.equal(one.windows, same.windows)
    assert not torch.equal(one.windows, other.windows)


def test_what_no_ranking_can_be_made_of_is_refused(records: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError, match="24 boxes .* on 3 images"):
        choose(records[:3], 1000)
    with pytest.raises(UserError, match="give 0 boxes"):
        choose([{**record, "annotations": []} for record in records], 1000)
    for record in records:
        for entry in record["annotations"]:
            entry["category_id"] = 1
    with pytest.raises(UserError, match="one class"):
        choose(records, 1000)
