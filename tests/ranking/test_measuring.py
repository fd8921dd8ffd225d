from __future__ import annotations

import dataclasses

import pytest
import torch

from clop_det.errors import UserError
from clop_det.figures import CATALOGUE
from clop_det.probes.measures.evidence import logme, tlogme
from clop_det.probes.measures.separability import lidar, scaled
from clop_det.ranking.encoding import Features
from clop_det.ranking.measuring import RULE_MEASURES, SPLITS, halved, measure
from clop_det.ranking.objects import Objects


def objects(count: int = 160) -> Objects:
    source = torch.Generator().manual_seed(0)
    pixels = torch.zeros(count, 3, 8, 8, dtype=torch.uint8)
    places = torch.rand(count, 4, generator=source, dtype=torch.float64)
    return Objects(pixels, pixels, places, torch.arange(count) % 3, torch.arange(count) // 4)


def features(of: Objects, signal: float) -> Features:
    """Noise, in which classes and places are hidden as far as `signal` says."""
    source = torch.Generator().manual_seed(1)
    crops, windows, grids = (torch.randn(len(of), size, generator=source) for size in (12, 12, 40))
    crops[:, :3] += signal * torch.eye(3)[of.labels]
    grids[:, :4] += 10 * signal * of.places.float()
    windows[:, :3] += signal * torch.eye(3)[of.labels]
    return Features(crops, windows, grids, torch.randn(20, 8, 12, generator=source))


def test_features_that_hold_classes_and_places_score_higher() -> None:
    seen = objects()
    knowing, blind = (measure(seen, features(seen, signal), 0) for signal in (4.0, 0.0))
    for name in RULE_MEASURES:
        assert knowing.figures[name] > blind.figures[name] + 0.1, name
        assert CATALOGUE.find(name).better == "higher"
        assert len(knowing.halves[name]) == SPLITS
        assert min(min(pair) for pair in knowing.halves[name]) > blind.figures[name], name


def test_every_figure_is_its_measure() -> None:
    seen = objects()
    given = features(seen, 1.0)
    figures = measure(seen, given, 0).figures
    assert figures["tlogme"] == tlogme(given.windows, seen.labels, seen.places)
    assert figures["lidar"] == lidar(scaled(given.views))
    assert {"object_h_score", "object_idest", "object_rankme", "object_sigreg"} <= figures.keys()


def test_the_bank_and_the_halves_never_share_an_image() -> None:
    seen = objects()
    first = halved(seen.images, torch.Generator().manual_seed(3))
    assert 0.4 < first.double().mean() < 0.6
    assert not set(seen.images[first].tolist()) & set(seen.images[~first].tolist())


def test_a_half_is_the_measure_of_its_objects_alone() -> None:
    seen = objects()
    given = features(seen, 1.0)
    part = torch.zeros(len(seen), dtype=torch.bool)
    part[:60] = True
    found = RULE_MEASURES["object_logme"](seen, given, part, torch.zeros_like(part))
    assert found == pytest.approx(logme(given.crops[:60], seen.labels[:60]), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_few_images_are_halved_so_that_each_half_has_a_bank_and_queries(seed: int) -> None:
    seen = dataclasses.replace(objects(40), images=torch.arange(40) % 4)
    found = measure(seen, features(seen, 4.0), seed)
    assert all(len(pairs) == SPLITS for pairs in found.halves.values())


def test_too_few_images_to_halve_are_refused() -> None:
    seen = dataclasses.replace(objects(40), images=torch.tensor([*range(3), *[3] * 37]))
    with pytest.raises(UserError, match="4 images, too few"):
        measure(seen, features(seen, 4.0), 0)
