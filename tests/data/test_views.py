"""What a step sees: pixels without a copy, and the crops that they came from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from clop_det.data.augment import AugmentSettings, ViewAugmentation
from clop_det.data.views import TWO_VIEWS, StoredViews, ViewGroup, ViewPlan, only_group
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


@pytest.mark.parametrize(
    ("needed", "named"),
    [
        ((ViewGroup(("weak", "strong")),), "weak, strong of 32 px"),
        ((ViewGroup(size=96),), "standard, standard of 96 px"),
        ((ViewGroup(), ViewGroup(("standard",) * 6, 16)), "and standard, standard, .* of 16 px"),
    ],
)
def test_views_that_nothing_makes_are_refused(needed: tuple[ViewGroup, ...], named: str) -> None:
    with pytest.raises(UserError, match=f"METHOD.NAME dino needs views of other kinds or sizes .*{named}"):
        only_group(needed, 32, "dino")
    assert only_group((ViewGroup(size=32),), 32, "dino") == ViewGroup(size=32)
