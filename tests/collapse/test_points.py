from __future__ import annotations

import pytest
import torch

from clop_det.collapse.points import effective_ranks, mean_cosines, mean_norms, random_points
from clop_det.probes.measures.spectrum import effective_rank
from tests.collapse.theory import simplex_points


def test_a_set_depends_on_its_own_seed_alone() -> None:
    together = random_points(10, 4, [3, 8])
    assert torch.equal(together[1], random_points(10, 4, [8])[0])
    assert not torch.equal(together[0], together[1])
    torch.testing.assert_close(together.norm(dim=2), torch.ones(2, 10))


def test_pairs_are_merged_views() -> None:
    points = random_points(10, 4, [0], pairs=True)
    assert points.shape == (1, 10, 4)
    assert torch.equal(points[:, :5], points[:, 5:])
    assert torch.equal(points[:, :5], random_points(5, 4, [0]))


@pytest.mark.parametrize(("count", "dim"), [(2, 1), (4, 3), (5, 9), (50, 50)])
def test_the_simplex_is_regular(count: int, dim: int) -> None:
    points = simplex_points(count, dim)
    cosines = points @ points.T
    expected = torch.full_like(cosines, -1 / (count - 1)).fill_diagonal_(1)
    torch.testing.assert_close(cosines, expected, rtol=0, atol=1e-12)
    assert points.shape == (count, dim)
    assert float(effective_ranks(points)) == pytest.approx(count - 1)
    assert float(mean_cosines(points)) == pytest.approx(-1 / (count - 1))


def test_measures() -> None:
    points = random_points(30, 8, [0, 1], dtype=torch.float64)
    assert effective_ranks(points).tolist() == [pytest.approx(effective_rank(p), rel=1e-12) for p in points]
    assert mean_norms(points).tolist() == [pytest.approx(float(p.mean(dim=0).norm())) for p in points]
    cosines = points[0] @ points[0].T
    assert float(mean_cosines(points)[0]) == pytest.approx(float((cosines.sum() - 30) / (30 * 29)))
    one = torch.eye(4)[:1].expand(6, 4)
    assert float(effective_ranks(one)) == pytest.approx(1)
    assert float(mean_norms(one)) == float(mean_cosines(one)) == 1


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="count=1, dim=3"):
        random_points(1, 3, [0])
    with pytest.raises(ValueError, match=r"seeds=\(\)"):
        random_points(4, 3, [])
    with pytest.raises(ValueError, match="count=5: must be even for pairs"):
        random_points(5, 3, [0], pairs=True)
