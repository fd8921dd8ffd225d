from __future__ import annotations

import numpy as np
import pytest
import torch

from clop_det.probes.measures.dimension import idest, two_nn


def cube(dim: int, points: int = 1000, ambient: int = 64) -> torch.Tensor:
    """Uniform points of a cube of `dim` dimensions, turned within more."""
    source = np.random.default_rng(dim)
    turned = np.linalg.qr(source.normal(size=(ambient, dim)))[0]
    return torch.from_numpy(source.random((points, dim)) @ turned.T)


@pytest.mark.parametrize(("dim", "low", "high"), [(2, 1.8, 2.2), (5, 4.0, 5.2), (10, 7.0, 10.0)])
def test_cubes_have_about_their_dimension(dim: int, low: float, high: float) -> None:
    points = cube(dim)
    assert low < idest(points) < high
    assert low < two_nn(points) < high + 0.5


def test_two_nn_is_its_formula() -> None:
    points = cube(3, 60).numpy()
    ratios = []
    for row in points:
        _, first, second = np.sort(np.linalg.norm(points - row, axis=1))[:3]
        ratios.append(second / first)
    assert two_nn(torch.from_numpy(points)) == pytest.approx(60 / np.log(ratios).sum(), rel=1e-10)


def test_the_slope_is_of_prims_tree() -> None:
    """On points of a line the tree's length does not grow with their number but for the ends: dimension 1."""
    line = torch.linspace(0, 1, 400, dtype=torch.float64)[:, None] * torch.ones(1, 5, dtype=torch.float64)
    assert idest(line) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("measure", [idest, two_nn])
def test_scale_and_repeated_rows_do_not_count(measure) -> None:  # type: ignore[no-untyped-def]
    points = cube(3, 200)
    assert measure(torch.cat([points, points])) == pytest.approx(measure(points), rel=1e-12)
    assert measure(points * 50 + 3) == pytest.approx(measure(points), rel=1e-6)
    assert measure(points[:1].expand(40, -1)) == 0


@pytest.mark.parametrize(("measure", "rows"), [(idest, 31), (two_nn, 2)])
def test_too_few_rows_are_refused(measure, rows: int) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="different rows"):
        measure(cube(3, rows))
