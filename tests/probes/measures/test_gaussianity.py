from __future__ import annotations

import numpy as np
import pytest
import torch

from clop_det.probes.measures.gaussianity import sigreg_value


def test_it_is_the_weighted_distance_of_characteristic_functions() -> None:
    """By quadrature on a fine grid along the same directions; the trapezoids of 17 knots differ a little."""
    rows = torch.from_numpy(np.random.default_rng(0).exponential(size=(80, 6)))
    standard = ((rows - rows.mean(0)) / rows.std(0)).numpy()
    drawn = torch.randn(6, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64).numpy()
    drawn /= np.linalg.norm(drawn, axis=0)
    t = np.linspace(-3, 3, 2001)
    angles = t[:, None, None] * (standard @ drawn)
    error = np.abs(np.exp(1j * angles).mean(1) - np.exp(-(t**2) / 2)[:, None]) ** 2
    by_quadrature = 80 * np.trapezoid(error.mean(1) * np.exp(-(t**2) / 2), t)
    assert sigreg_value(rows, directions=64, seed=3) == pytest.approx(by_quadrature, rel=1e-3)


def test_a_gaussian_cloud_is_nearer_than_clusters_and_scale_does_not_count() -> None:
    source = torch.Generator().manual_seed(0)
    cloud = torch.randn(400, 8, generator=source)
    clusters = cloud * 0.05 + torch.eye(8)[torch.arange(400) % 8]
    assert sigreg_value(cloud) < sigreg_value(clusters) / 3
    assert sigreg_value(cloud * 7 - 2) == pytest.approx(sigreg_value(cloud), rel=1e-4)


def test_equal_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="must vary"):
        sigreg_value(torch.ones(5, 3))
