from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from clop_det.pretraining.curves import draw_curves
from clop_det.pretraining.pictures import spectrum_picture, view_grid


@pytest.fixture(autouse=True)
def _unrendered() -> None:
    """Here they are."""


def test_the_grid_shows_the_two_views_of_an_image_one_above_the_other() -> None:
    mean, std = torch.full((1, 3, 1, 1), 100.0), torch.full((1, 3, 1, 1), 50.0)
    pixels = torch.arange(6).view(2, 3, 1, 1, 1).expand(2, 3, 3, 96, 96) * 20.0  # two views of three images
    grid = view_grid((pixels - mean) / std, mean, std)
    assert grid.dtype == torch.uint8
    assert grid.shape == (3, 2 * 98 + 2, 3 * 98 + 2)
    centres = grid[0, 49::98, 49::98]
    assert centres.tolist() == [[0, 20, 40], [60, 80, 100]]


def test_small_views_are_enlarged_and_at_most_eight_shown() -> None:
    ones = torch.ones(1, 3, 1, 1)
    assert view_grid(torch.zeros(2, 20, 3, 32, 32), ones, ones).shape == (3, 2 * 98 + 2, 8 * 98 + 2)


def test_a_spectrum_is_a_picture_even_of_zeros() -> None:
    for values in ([3.0, 1.0, 0.0], [0.0, 0.0]):
        picture = spectrum_picture(values, 20)
        assert picture.dtype == torch.uint8
        assert picture.shape[0] == 3
        assert (picture < 128).any()


def test_curves_are_drawn_from_the_metrics_alone(tmp_path: Path) -> None:
    lines = [
        {"iteration": 0, "lr": 0.1, "loss_a": 2.0, "loss_b": 1.0, "total_loss": 3.0, "probe/knn_top1": 0.1},
        {"iteration": 9, "lr": 0.05, "loss_a": 1.0, "loss_b": 0.5, "total_loss": 1.5, "embedding_rankme": 4.0},
        {"iteration": 19, "lr": 0.01, "probe/knn_top1": 0.6, "probe/rankme": 9.0, "skipped_steps": 1},
    ]
    (tmp_path / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    path = draw_curves(tmp_path)
    assert path.name == "curves.png"
    with Image.open(path) as picture:
        assert picture.width > 800
