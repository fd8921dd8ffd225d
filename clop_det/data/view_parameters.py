"""What is random about a view: settings, and the parameters drawn from them for a whole batch at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clop_det.engine.device import moved

_TRIES = 10  # draws of a crop before the central one is taken, as in torchvision
_COLUMNS = 11


@dataclass(frozen=True)
class AugmentSettings:
    """Probabilities and ranges of the augmentation; the fields are the keys AUGMENT.* in lower case."""

    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip_prob: float = 0.5
    jitter_prob: float = 0.8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    grey_prob: float = 0.2
    blur_prob: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_prob: float = 0.0
    weak_crop_scale: tuple[float, float] = (0.5, 1.0)

    def weak(self) -> AugmentSettings:
        """Those of a weak view: a crop of `weak_crop_scale` and a flip."""
        off = dict.fromkeys(("jitter_prob", "grey_prob", "blur_prob", "solarize_prob"), 0.0)
        return dataclasses.replace(self, crop_scale=self.weak_crop_scale, **off)  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, node: Mapping[str, Any]) -> AugmentSettings:
        """Settings from the config node AUGMENT."""
        fields: dict[str, Any] = {field.name: node[field.name.upper()] for field in dataclasses.fields(cls)}
        fields.update({name: tuple(value) for name, value in fields.items() if isinstance(value, list)})
        return cls(**fields)


@dataclass(frozen=True)
class ViewParameters:
    """Parameters of V views of n images; `params[a:b]` are those of images a..b-1, `params.to(device)` moves them.

    Attributes:
        values: (n, V, 11) float32; the second axis is the view. The columns are named by the properties below.
    """

    values: Tensor

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | Tensor) -> ViewParameters:
        return ViewParameters(self.values[rows])

    def to(self, device: torch.device | str) -> ViewParameters:
        """The same parameters on another device (one copy, which the host does not wait for)."""
        return ViewParameters(moved(self.values, torch.device(device)))

    @property
    def views(self) -> int:
        """V, the number of views of each image."""
        return self.values.shape[1]

    @property
    def boxes(self) -> Tensor:
        """(n, V, 4): left, top, width and height of the crop as shares of the image's width and height."""
        return self.values[..., 0:4]

    @property
    def flip(self) -> Tensor:
        """(n, V): 1 where the view is mirrored, else 0."""
        return self.values[..., 4]

    @property
    def colour(self) -> Tensor:
        """(n, V, 4): factors of brightness, contrast, saturation (1 = unchanged, saturation 0 = grey); hue in turns."""
        return self.values[..., 5:9]

    @property
    def blur_sigma(self) -> Tensor:
        """(n, V): standard deviation of the blur in pixels of the view; 0 = none."""
        return self.values[..., 9]

    @property
    def solarize(self) -> Tensor:
        """(n, V): 1 where the view is solarised, else 0."""
        return self.values[..., 10]


def draw_parameters(
    settings: AugmentSettings,
    n: int,
    generator: torch.Generator,
    aspect: Tensor | None = None,
    views: int = 2,
    part: slice = slice(None),
) -> ViewParameters:
    """Draw the parameters of `views` views for each of `n` images from a CPU generator.

    Every image consumes the same amount of randomness whatever the settings, so two runs that differ in one
    probability still share all other draws.

    Args:
        aspect: width divided by height of each image in `part`, by default 1; only the crops depend on it.
        part: the images whose parameters are computed and returned; the generator draws for all.
    """
    uniform = torch.rand((n, views, 2 * _TRIES + 12), generator=generator)[part]
    tries, single = uniform[..., : 2 * _TRIES], uniform[..., 2 * _TRIES :].unbind(-1)
    values = torch.empty((len(uniform), views, _COLUMNS))
    aspect = torch.ones(len(uniform)) if aspect is None else aspect
    values[..., 0:4] = _crop_boxes(settings, tries[..., :_TRIES], tries[..., _TRIES:], single[0], single[1], aspect)
    values[..., 4] = (single[2] < settings.flip_prob).float()
    jittered = (single[3] < settings.jitter_prob).float()
    for column, width in enumerate((settings.brightness, settings.contrast, settings.saturation)):
        low, high = max(0.0, 1.0 - width), 1.0 + width
        values[..., 5 + column] = 1.0 + jittered * (low + (high - low) * single[4 + column] - 1.0)
    values[..., 8] = jittered * (2 * single[7] - 1) * settings.hue
    # Grey is saturation 0: the mean luma, and so the contrast, is the same before and after.
    values[..., 7] *= (single[8] >= settings.grey_prob).float()
    low, high = settings.blur_sigma
    values[..., 9] = (single[9] < settings.blur_prob).float() * (low + (high - low) * single[10])
    values[..., 10] = (single[11] < settings.solarize_prob).float()
    return ViewParameters(values)


def _crop_boxes(settings: AugmentSettings, area: Tensor, ratio: Tensor, x: Tensor, y: Tensor, aspect: Tensor) -> Tensor:
    """Boxes (n, V, 4) of a random resized crop (Szegedy et al. 2015) from uniform numbers.

    Area uniform, aspect ratio in pixels log-uniform, drawn until the box fits into the image, at most ten times; then
    the largest central box of an allowed ratio. Place uniform. `aspect` (n,) is the images' width by height.
    """
    low, high = settings.crop_scale
    side = (low + (high - low) * area).sqrt()
    log_low, log_high = (math.log(value) for value in settings.crop_ratio)
    # A ratio in pixels is `aspect` times the ratio of the shares of width and height.
    stretch = (0.5 * (log_low + (log_high - log_low) * ratio)).exp() / aspect.sqrt()[:, None, None]
    widths, heights = side * stretch, side / stretch
    fits = (widths <= 1) & (heights <= 1)
    first = (~fits).long().cumprod(-1).sum(-1, keepdim=True).clamp(max=_TRIES - 1)
    width, height = (sides.gather(-1, first).squeeze(-1) for sides in (widths, heights))
    failed = ~fits.any(-1)
    central = (aspect.clamp(*settings.crop_ratio) / aspect)[:, None]
    width = torch.where(failed, central.clamp(max=1.0), width)
    height = torch.where(failed, (1.0 / central).clamp(max=1.0), height)
    left = torch.where(failed, (1 - width) / 2, x * (1 - width))
    top = torch.where(failed, (1 - height) / 2, y * (1 - height))
    return torch.stack([left, top, width, height], dim=-1)
