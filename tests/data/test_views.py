"""What a step sees: pixels without a copy, and the crops that they came from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clop_det.data.augment import AugmentSettings, ViewAugmentation
from clop_det.data.views import TWO_VIEWS, StoredViews, ViewGroup, ViewPlan, check_groups
from clop_det.errors import UserError

CPU = torch.device("cpu")
SIDE, SIZE = 40, 10


class _Ramps:
    """Six squares of SIDE pixels, whose red is the column and whose green is the row."""

    def __init__(self) -> None:
        column = torch.arange(SIDE, dtype=torch.uint8).expand(SIDE, SIDE)
        self.shape = (6, 3, SIDE, SIDE)
        self.pixels = torch.stack([column, column.t(), torch.zeros_like(column)]).expand(self.shape)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int | slice | Tensor) -> Tensor:
        return self.pixels[index]


def plan_of(group: ViewGroup = TWO_VIEWS[0], **settings: float | tuple[float, float]) -> ViewPlan:
    augment = ViewAugmentation(AugmentSettings(**settings), SIZE, [0, 0, 0], [255, 255, 255])  # type: ignore[arg-type]
    return ViewPlan(augment, 0, 6, 4, group=group)


def test_the_stacked_views_are_the_same_memory_first_views_first() -> None:
    views = StoredViews(_Ramps(), plan_of(), CPU)(0)
    assert views.pixels.shape == (2, 4, 3, SIZE, SIZE)
    assert views.stacked.data_ptr() == views.pixels.data_ptr()
    assert views.stacked.is_contiguous()
    assert torch.equal(views.stacked[4], views.pixels[1, 0])
    assert (len(views), views.kinds, views.further) == (4, ("standard", "standard"), ())


def test_boxes_are_pixels_of_the_stored_square() -> None:
    """The mean colour of a view is the middle of its box, its red rises unless it is mirrored."""
    views = StoredViews(_Ramps(), plan_of(jitter_prob=0.0, grey_prob=0.0), CPU)(0)
    assert (views.boxes[..., :2] >= 0).all()
    assert (views.boxes[..., 2:] <= SIDE).all()
    assert (views.boxes[..., 2:] - views.boxes[..., :2] > 0.3 * SIDE).all()
    middle = (views.boxes[..., :2] + views.boxes[..., 2:]) / 2 - 0.5
    seen = 255 * views.pixels[:, :, :2].mean(dim=(-2, -1))
    torch.testing.assert_close(seen, middle, atol=0.1, rtol=0)
    assert views.flips.dtype == torch.bool
    assert 0 < int(views.flips.sum()) < 8
    assert torch.equal(views.pixels[:, :, 0, 0, -1] < views.pixels[:, :, 0, 0, 0], views.flips)


def test_a_method_gets_as_many_views_as_it_asks_for() -> None:
    images = _Ramps()
    three = StoredViews(images, plan_of(ViewGroup(("standard",) * 3)), CPU)(0)
    assert three.pixels.shape == (3, 4, 3, SIZE, SIZE)
    assert three.boxes.shape == (3, 4, 4)
    assert three.flips.shape == (3, 4)
    assert not torch.equal(three.pixels[0], three.pixels[2])


def test_weak_views_are_crops_and_flips_and_leave_the_standard_ones_as_they_are() -> None:
    kinds = ViewGroup(("weak", "standard"))
    mixed, standard = (plan_of(group).parameters(3) for group in (kinds, ViewGroup()))
    assert torch.equal(mixed.values[:, 1], standard.values[:, 1])
    unchanged = torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(4, 4)
    assert torch.equal(mixed.colour[:, 0], unchanged)
    assert not torch.equal(mixed.colour[:, 1], unchanged)
    assert not mixed.blur_sigma[:, 0].any()
    area = mixed.boxes[:, 0, 2] * mixed.boxes[:, 0, 3]
    assert (area >= 0.5 - 1e-6).all()
    assert torch.equal(mixed.flip, standard.flip)


def test_groups_of_other_sizes_and_crops_show_the_same_images() -> None:
    local = ViewGroup(("standard",) * 3, 6, (0.05, 0.2))
    augment = ViewAugmentation(AugmentSettings(crop_scale=(0.05, 0.2)), 6, [0, 0, 0], [255, 255, 255])
    first = plan_of()
    plan = replace(first, further=(replace(first, augment=augment, group=local, draws="augment 1"),))
    alone, both = StoredViews(_Ramps(), first, CPU)(2), StoredViews(_Ramps(), plan, CPU)(2)
    assert torch.equal(alone.pixels, both.pixels)
    (small,) = both.further
    assert small.pixels.shape == (3, 4, 3, 6, 6)
    sides = small.boxes[..., 2:] - small.boxes[..., :2]
    assert (sides.prod(-1) <= 0.2 * SIDE**2 + 1).all()


def test_views_that_nothing_makes_are_refused() -> None:
    with pytest.raises(UserError, match="METHOD.NAME dino needs views of the kind masked"):
        check_groups((ViewGroup(), ViewGroup(("standard", "masked"), 16)), "dino")
    check_groups((ViewGroup(("weak", "standard")), ViewGroup(("standard",) * 6, 16)), "dino")
