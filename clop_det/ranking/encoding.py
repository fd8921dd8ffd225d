"""A checkpoint's frozen features of the objects, computed by the very backbone that a detector would start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.backbones.base import Family
from clop_det.backbones.detectors import TargetDetector, last_map
from clop_det.backbones.registry import find_architecture
from clop_det.checkpoints.loading import quiet_loading
from clop_det.checkpoints.reading import read_provenance
from clop_det.conversion.loading import DetectorCheckpointer
from clop_det.conversion.proof import target_config
from clop_det.data.augment import ViewAugmentation
from clop_det.data.view_parameters import AugmentSettings, draw_parameters
from clop_det.engine.seeding import generator
from clop_det.ranking.objects import Objects

GRID = 4  # cells a side of the last map, where places are looked for
VIEWED, VIEWS = 64, 8  # objects, and augmented views of each, for LiDAR
_BATCH = 64


@dataclass(frozen=True)
class Features:
    """What a network makes of `Objects`.

    Attributes:
        crops: (N, D) pooled features of the boxes.
        windows: (N, D) pooled features of the windows.
        grids: (N, 16 C) the last map of the windows in 4 x 4 cells.
        views: (n, 8, D) pooled features of augmented views of the first n boxes.
    """

    crops: Tensor
    windows: Tensor
    grids: Tensor
    views: Tensor


class Encoder:
    """A detector's backbone in evaluation mode on the CPU.

    Args:
        weights: a converted file; its provenance says which network it is and how images are fed.
        random: draw the weights from this seed and leave the file's alone: a network that has learnt nothing.
    """

    def __init__(self, weights: Path, random: int | None = None) -> None:
        provenance: dict[str, Any] = read_provenance(weights)
        self.arch: str = provenance["arch"]
        family, architecture = find_architecture(self.arch, str(weights))
        cfg = target_config(family.targets(architecture)[0], provenance)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random or 0)
            self._detector: TargetDetector = family.target_network(cfg).eval()
        if random is None:
            with quiet_loading():
                DetectorCheckpointer(self._detector).load(str(weights))
        self._family: Family = family
        self._rgb = cfg.INPUT.FORMAT == "RGB"
        self._mean, self._std = (
            torch.tensor(list(values)).view(1, 3, 1, 1) for values in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD)
        )

    def features(self, objects: Objects, seed: int, progress: Callable[[int, int], None]) -> Features:
        """Features of all objects; `progress` is called with (images done, images in all)."""
        views = _views(objects, seed)
        total, done = 2 * len(objects) + len(views), 0
        pooled: dict[str, Tensor] = {}
        grids: list[Tensor] = []
        for name, images in (("crops", objects.crops), ("windows", objects.windows), ("views", views)):
            parts = []
            for batch in self._fed(images):
                with torch.no_grad():
                    parts.append(self._family.detector_features(self._detector, batch).float())
                    if name == "windows":
                        grids.append(F.adaptive_avg_pool2d(last_map(self._detector, batch), GRID).flatten(1))
                done += len(batch)
                progress(done, total)
            pooled[name] = torch.cat(parts)
        viewed = min(VIEWED, len(objects))
        by_object = pooled["views"].view(VIEWS, viewed, -1).transpose(0, 1)
        return Features(pooled["crops"], pooled["windows"], torch.cat(grids), by_object)

    def _fed(self, images: Tensor) -> Iterator[Tensor]:
        for part in torch.split(images, _BATCH):
            ordered = part.float() if self._rgb else part.float().flip(1)
            yield (ordered - self._mean) / self._std


def _views(objects: Objects, seed: int) -> Tensor:
    """(8 n, 3, S, S) on the scale of 0 to 255: all first views, then all second, ..."""
    images, settings = objects.crops[:VIEWED], AugmentSettings()
    drawn = draw_parameters(settings, len(images), generator(seed, "ranking views"), views=VIEWS)
    return ViewAugmentation(settings, images.shape[-1], (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).apply(images, drawn)
