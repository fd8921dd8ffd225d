"""From features to figures: every measure once on all objects, and those of the rule on halves of the images, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import clop_det.probes.tasks  # noqa: F401  (registers the probes)
from clop_det.engine.seeding import generator
from clop_det.errors import UserError
from clop_det.figures import CATALOGUE, HIGHER, ON_BOXES, Figure
from clop_det.probes.base import IMAGES, PROBES, ProbeData
from clop_det.probes.measures.evidence import logme, tlogme
from clop_det.probes.measures.knn import knn_top1
from clop_det.probes.measures.linear import linear_probe
from clop_det.probes.measures.location import location_r2
from clop_det.probes.measures.separability import h_score, lidar, scaled, transrate
from clop_det.probes.running import run_tasks
from clop_det.ranking.encoding import Features
from clop_det.ranking.objects import Objects

TASKS = ("knn", "linear", "separation", "rankme", "shape")
SPLITS = 5  # times the images are halved
_NEIGHBOURS = 20
_LEAST, _TRIES = 3, 100  # boxes of a half that are in the bank, or queries; draws

CATALOGUE.register(
    (
        Figure("tlogme", "TLogME", 3, better=HIGHER),
        Figure("location_r2", "localisation R2", 3, better=HIGHER),
        Figure("lidar", "LiDAR", 1, "directions", HIGHER),
    ),
    __name__,
)


@dataclass(frozen=True)
class Measured:
    """The figures of one checkpoint.

    Attributes:
        figures: name -> value, on all objects.
        halves: name -> values of the two halves of each splitting, in one order for every checkpoint.
    """

    figures: dict[str, float]
    halves: dict[str, list[tuple[float, float]]]


def measure(objects: Objects, features: Features, seed: int, splits: int = SPLITS) -> Measured:
    """All figures of a checkpoint; one that its objects are too few for is absent.

    `splits`: how often the images are halved; 0: never, which takes a fifth of the time.

    Raises:
        UserError: too few images to halve them.
    """
    bank = halved(objects.images, generator(seed, "ranking bank"))
    data = ProbeData(features.crops[bank], objects.labels[bank], features.crops[~bank], objects.labels[~bank])
    tasks = [PROBES[name](_options(name)) for name in TASKS]
    figures = {ON_BOXES + name: value for name, value in run_tasks(tasks, {IMAGES: {"": lambda: data}}).items()}
    figures |= {
        "tlogme": tlogme(features.windows, objects.labels, objects.places),
        "location_r2": _location(objects, features, bank),
        "lidar": lidar(scaled(features.views)),
    }
    halves: dict[str, list[tuple[float, float]]] = {name: [] for name in RULE_MEASURES}
    for split in range(splits):
        first = _split(objects.images, bank, generator(seed, "ranking half", split))
        for name, function in RULE_MEASURES.items():
            one, other = (_of_part(function, objects, features, part, bank) for part in (first, ~first))
            halves[name].append((one, other))
    return Measured(figures, halves)


def halved(images: Tensor, source: torch.Generator) -> Tensor:
    """(N,) bool: the boxes of a random half of the images (images with boxes weigh by these as they come)."""
    owners = torch.unique(images)
    shuffled = owners[torch.randperm(len(owners), generator=source)]
    return torch.isin(images, shuffled[: len(owners) // 2])


def _split(images: Tensor, bank: Tensor, source: torch.Generator) -> Tensor:
    """The first `halved` that leaves bank and queries, in both halves, enough boxes for the measures of the rule."""
    for _ in range(_TRIES):
        first = halved(images, source)
        if min(int((half & part).sum()) for half in (first, ~first) for part in (bank, ~bank)) >= _LEAST:
            return first
    raise UserError(
        f"the boxes lie on {len(torch.unique(images))} images, too few to halve them twice; name more training images."
    )


def _options(name: str) -> dict[str, object]:
    defaults: dict[str, object] = {option: key.default for option, key in PROBES.entry(name).options.items()}
    return defaults | ({"K": (_NEIGHBOURS,)} if name == "knn" else {})


def _of_part(function: Part, objects: Objects, features: Features, part: Tensor, bank: Tensor) -> float:
    return function(objects, features, part & bank, part & ~bank)


def _location(objects: Objects, features: Features, bank: Tensor, queries: Tensor | None = None) -> float:
    asked = ~bank if queries is None else queries
    return location_r2(features.grids[bank], objects.places[bank], features.grids[asked], objects.places[asked])


def _linear(objects: Objects, features: Features, bank: Tensor, queries: Tensor) -> float:
    x, y = features.crops, objects.labels
    return linear_probe(x[bank], y[bank], x[queries], y[queries])["linear_top1"]


def _knn(objects: Objects, features: Features, bank: Tensor, queries: Tensor) -> float:
    x, y = features.crops, objects.labels
    return knn_top1(x[bank], y[bank], x[queries], y[queries], (_NEIGHBOURS,))[_NEIGHBOURS]


def _on_bank(function: Callable[[Tensor, Tensor], float]) -> Part:
    """A measure of (features, labels) that takes the bank alone."""
    return lambda objects, features, bank, queries: function(scaled(features.crops[bank]), objects.labels[bank])


def _tlogme(objects: Objects, features: Features, bank: Tensor, queries: Tensor) -> float:
    part = bank | queries
    return tlogme(features.windows[part], objects.labels[part], objects.places[part])


Part = Callable[[Objects, Features, Tensor, Tensor], float]
# What a rule may combine: figure -> the same on a part of the objects, (bank, queries) bool (N,). Measures of the
# spectrum are not here: they may only compare runs of one method.
RULE_MEASURES: dict[str, Part] = {
    "object_linear_top1": _linear,
    "object_knn_top1": _knn,
    "object_logme": _on_bank(logme),
    "location_r2": _location,
    "tlogme": _tlogme,
    "object_h_score": _on_bank(h_score),
    "object_transrate": _on_bank(transrate),
}
