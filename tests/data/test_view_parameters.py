"""What is drawn: distributions against torchvision's, probabilities, ranges, bad settings."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest
from torchvision.transforms import ColorJitter, RandomResizedCrop

from clop_det.config import add_clop_config
from clop_det.data.view_parameters import AugmentSettings, ViewParameters, draw_parameters

N = 4000
# All draws are seeded, so a test either always passes or never; below this the distributions would differ.
P_VALUE = 1e-3


def _draw(n: int = N, seed: int = 0, **settings: Any) -> ViewParameters:
    return draw_parameters(AugmentSettings(**settings), n, torch.Generator().manual_seed(seed))


def _share(count: float, probability: float, trials: int) -> bool:
    """Whether a share of successes lies within four standard deviations of its probability."""
    return abs(count - probability) < 4 * math.sqrt(probability * (1 - probability) / trials)


@pytest.mark.parametrize(
    ("scale", "ratio"), [((0.2, 1.0), (3 / 4, 4 / 3)), ((0.08, 1.0), (3 / 4, 4 / 3)), ((0.7, 1.0), (0.4, 2.5))]
)
def test_crops_are_distributed_as_torchvisions(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    boxes = _draw(crop_scale=scale, crop_ratio=ratio).boxes.reshape(-1, 4).numpy()
    image = torch.empty(1, 2000, 2000)  # large: torchvision's rounding to pixels does not show
    crops = [RandomResizedCrop.get_params(image, scale, ratio) for _ in range(N)]  # type: ignore[arg-type]
    expected = np.array([(left, top, width, height) for top, left, height, width in crops]) / 2000
    columns = {
        "left": lambda b: b[:, 0],
        "top": lambda b: b[:, 1],
        "width": lambda b: b[:, 2],
        "height": lambda b: b[:, 3],
        "area": lambda b: b[:, 2] * b[:, 3],
        "ratio": lambda b: b[:, 2] / b[:, 3],
        "right": lambda b: b[:, 0] + b[:, 2],
    }
    for name, column in columns.items():
        # Rounding merges the many values that sit on a bound; a thousandth apart is the same.
        assert ks_2samp(column(boxes).round(3), column(expected).round(3)).pvalue > P_VALUE, name


@pytest.mark.parametrize(("ratio", "size"), [((2.0, 3.0), (1.0, 0.5)), ((0.2, 0.25), (0.25, 1.0))])
def test_a_crop_that_never_fits_is_the_largest_central_one(
    ratio: tuple[float, float], size: tuple[float, float]
) -> None:
    boxes = _draw(50, crop_scale=(1.0, 1.0), crop_ratio=ratio).boxes
    expected = torch.tensor([(1 - size[0]) / 2, (1 - size[1]) / 2, *size])
    torch.testing.assert_close(boxes, expected.expand(50, 2, 4))


def test_boxes_lie_inside_the_image() -> None:
    boxes = _draw(crop_scale=(0.05, 1.0), crop_ratio=(0.3, 3.0)).boxes
    assert (boxes >= 0).all()
    assert (boxes[..., :2] + boxes[..., 2:] <= 1 + 1e-6).all()
    assert (boxes[..., 2:] > 0.1).all()


def test_probabilities_are_met() -> None:
    params = _draw(flip_prob=0.3, jitter_prob=0.6, grey_prob=0.15, blur_prob=0.4, solarize_prob=0.1)
    trials = 2 * N
    assert _share(params.flip.mean().item(), 0.3, trials)
    assert _share((params.colour[..., 0] != 1).float().mean().item(), 0.6, trials)
    assert _share((params.colour[..., 2] == 0).float().mean().item(), 0.15, trials)
    assert _share((params.blur_sigma > 0).float().mean().item(), 0.4, trials)
    assert _share(params.solarize.mean().item(), 0.1, trials)


def test_certain_and_impossible_operations() -> None:
    sure = _draw(500, flip_prob=1.0, jitter_prob=1.0, grey_prob=1.0, blur_prob=1.0, solarize_prob=1.0)
    assert (sure.flip == 1).all()
    assert (sure.solarize == 1).all()
    assert (sure.colour[..., 2] == 0).all()
    assert (sure.blur_sigma >= 0.1).all()
    whole = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0)}
    never = _draw(500, **whole, flip_prob=0.0, jitter_prob=0.0, grey_prob=0.0)  # blur and solarisation are off anyway
    assert torch.equal(never.boxes, torch.tensor([0.0, 0, 1, 1]).expand(500, 2, 4))
    assert torch.equal(never.colour, torch.tensor([1.0, 1, 1, 0]).expand(500, 2, 4))
    assert (never.flip + never.blur_sigma + never.solarize == 0).all()


@pytest.mark.parametrize(("column", "key"), [(0, "brightness"), (1, "contrast"), (2, "saturation"), (3, "hue")])
@pytest.mark.parametrize("width", [0.3, 1.5])
def test_jitter_factors_are_distributed_as_torchvisions(column: int, key: str, width: float) -> None:
    width = width / 3 if key == "hue" else width
    jitter = ColorJitter(**{key: width})
    factors = _draw(jitter_prob=1.0, grey_prob=0.0, **{key: width}).colour[..., column].flatten().numpy()
    expected = [
        ColorJitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)[1 + column]
        for _ in range(N)
    ]
    assert ks_2samp(factors, np.array(expected)).pvalue > P_VALUE


def test_sigma_of_the_blur_is_uniform() -> None:
    sigma = _draw(blur_prob=1.0, blur_sigma=(0.5, 1.5)).blur_sigma.flatten().numpy()
    assert kstest(sigma, "uniform", (0.5, 1.0)).pvalue > P_VALUE


def test_columns_are_independent_of_each_other_and_of_the_other_view() -> None:
    values = _draw(jitter_prob=1.0, blur_prob=1.0, grey_prob=0.0, solarize_prob=0.5).values
    # Both views of each column but the crop's top, width and height: a crop's place and size are tied to each other.
    columns = values[..., [0, 4, 5, 6, 7, 8, 9, 10]].flatten(1).t()
    correlations = torch.corrcoef(columns) - torch.eye(len(columns))
    assert correlations.abs().max() < 5 / math.sqrt(N)


def test_one_changed_probability_leaves_all_other_draws() -> None:
    one, other = _draw(seed=3, flip_prob=0.0), _draw(seed=3, flip_prob=0.9)
    assert torch.equal(one.boxes, other.boxes)
    assert torch.equal(one.colour, other.colour)


def test_slicing_and_moving() -> None:
    params = _draw(10)
    assert len(params) == 10
    assert torch.equal(params[3:7].values, params.values[3:7])
    assert torch.equal(params[torch.tensor([5, 1])].boxes, params.boxes[[5, 1]])
    assert torch.equal(params.to("cpu").values, params.values)


def test_draws_are_a_function_of_the_generator_alone() -> None:
    first = _draw(20, seed=7)
    torch.manual_seed(123)
    assert torch.equal(first.values, _draw(20, seed=7).values)
    assert not torch.equal(first.values, _draw(20, seed=8).values)


def test_settings_and_config_keys_agree() -> None:
    from detectron2.config import get_cfg

    cfg = get_cfg()
    add_clop_config(cfg)
    assert {key.lower() for key in cfg.AUGMENT} == {field.name for field in dataclasses.fields(AugmentSettings)}
    cfg.AUGMENT.CROP_SCALE = [0.3, 0.9]  # YAML knows no tuples
    settings = AugmentSettings.from_config(cfg.AUGMENT)
    assert settings.crop_scale == (0.3, 0.9)
    assert settings == dataclasses.replace(AugmentSettings(), crop_scale=(0.3, 0.9), crop_ratio=settings.crop_ratio)
    assert settings.crop_ratio == pytest.approx((3 / 4, 4 / 3))


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_a_part_of_a_batch_is_drawn_as_in_the_whole(ranks: int) -> None:
    settings, n = AugmentSettings(solarize_prob=0.3), 48
    aspect = torch.linspace(0.3, 3.0, n)
    whole = draw_parameters(settings, n, torch.Generator().manual_seed(5), aspect, views=3).values
    size = n // ranks
    for start in range(0, n, size):
        part = slice(start, start + size)
        drawn = draw_parameters(settings, n, torch.Generator().manual_seed(5), aspect[part], 3, part).values
        assert torch.equal(drawn, whole[part])
