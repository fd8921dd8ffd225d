"""The usable part of a segmentation: polygons, run-length codes in both spellings, and what is neither."""

from __future__ import annotations

from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.structures.masks import polygons_to_bitmask

from clop_det.annotations.segmentation import mask_pixels, smallest_box, usable_part

TRIANGLE = [1, 2, 8, 2, 8, 6.5]
SIZE = [6, 9]  # height, width


def listed(pixels: np.ndarray) -> dict[str, Any]:
    """The run-length code of (H, W) pixels with its counts as a list, as COCO writes crowds."""
    runs, last = [0], False
    for value in pixels.flatten(order="F"):
        if bool(value) != last:
            runs.append(0)
            last = not last
        runs[-1] += 1
    return {"size": list(pixels.shape), "counts": runs}


@pytest.mark.parametrize("seed", range(8))
def test_run_length_codes_in_every_spelling_are_the_same_mask(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = (int(x) for x in rng.integers(1, 90, 2))
    pixels = (rng.random((height, width)) < rng.choice([0.0, 0.02, 0.5, 1.0])).astype(np.uint8)
    packed = mask_util.encode(np.asfortranarray(pixels))
    text = {**packed, "counts": packed["counts"].decode()}
    for code in (packed, text, listed(pixels)):
        found, whole = usable_part(code, height, width)
        assert whole
        assert found == text
        assert np.array_equal(mask_util.decode(found), pixels)
        assert np.array_equal(mask_pixels(found, height, width), pixels)


def test_the_pixels_of_polygons_are_detectron2s() -> None:
    polygons = [TRIANGLE, [2.5, 1, 7, 1, 7, 4.5, 2.5, 4.5]]
    expected = polygons_to_bitmask([np.asarray(polygon, dtype=float) for polygon in polygons], *SIZE)
    assert expected.any()
    assert np.array_equal(mask_pixels(polygons, *SIZE), expected)
    assert not mask_pixels(None, *SIZE).any()


@pytest.mark.parametrize("absent", [None, []])
def test_no_segmentation_lacks_nothing(absent: Any) -> None:
    assert usable_part(absent, *SIZE) == (None, True)


@pytest.mark.parametrize(
    "polygon",
    [[], [1, 2, 3, 4], TRIANGLE[:-1], "123456", 7, None, [1, 2, 3, 4, 5, "6"], [1, 2, 3, 4, 5, None],
     [1, 2, 3, 4, 5, float("nan")], [1, 2, 3, 4, 5, 10**40], [TRIANGLE] * 6, [[1], [2, 3], 4, 5, 6, 7]],
)  # fmt: skip
def test_polygons_that_cannot_be_one_are_left_out(polygon: Any) -> None:
    assert usable_part([polygon], *SIZE) == (None, False)
    assert usable_part([TRIANGLE, polygon], *SIZE) == ([TRIANGLE], False)


@pytest.mark.parametrize(
    "mask",
    ["text", 5, {}, {"size": SIZE}, {"counts": [54]}]
    + [{"size": size, "counts": [50, 4]} for size in (None, 54, [54], [9, 6], ["6", "9"], [None, None])]
    + [{"size": SIZE, "counts": c} for c in (None, 5, [], [50], [50, 5], [-1, 55], [50, 4.5], ["a"], [50, None])]
    + [{"size": SIZE, "counts": c} for c in ("", "abc", "oooo", "d0", "é", "\ud800", "P" * 20, "X1X")],
)
def test_run_length_codes_that_do_not_fill_the_image_are_none(mask: Any) -> None:
    assert usable_part(mask, *SIZE) == (None, False)


@pytest.mark.parametrize("size", [[0, 0], [0, 5], [5, 0], [1 << 16, 1], [1, 1 << 16], [-1, -1], [2**40, 2**40]])
def test_a_run_length_code_of_no_pixel_or_of_a_side_beyond_16_bits_has_no_box(size: list[int]) -> None:
    assert smallest_box({"size": size, "counts": [size[0] * size[1]]}) is None
    assert smallest_box({"size": size, "counts": ""}) is None


def test_the_smallest_box_around_a_run_length_code() -> None:
    pixels = np.zeros((9, 7), dtype=np.uint8)
    pixels[2:5, 1:6] = 1
    assert smallest_box(listed(pixels)) == [1, 2, 5, 3]
