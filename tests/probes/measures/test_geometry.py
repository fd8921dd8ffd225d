from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clop_det.probes.measures import geometry as geometry_module
from clop_det.probes.measures.geometry import (
    class_means,
    geometry,
    nc1,
    orthogonal_frame_gap,
    prototype_alignment,
    simplex_etf_gap,
    within_class_effective_rank,
)
from clop_det.probes.measures.spectrum import effective_rank


def orthonormal(k: int, d: int) -> Tensor:
    return torch.linalg.qr(torch.randn(d, k, dtype=torch.float64))[0].T


def simplex(k: int, d: int) -> Tensor:
    return (torch.eye(k, dtype=torch.float64) - 1 / k) @ orthonormal(k, d)


def spread(means: Tensor, per_class: int, noise: float) -> tuple[Tensor, Tensor]:
    labels = torch.arange(len(means)).repeat_interleave(per_class)
    return means[labels] + noise * torch.randn(len(labels), means.shape[1], dtype=torch.float64), labels


def nc1_by_definition(features: Tensor, labels: Tensor) -> float:
    classes = labels[labels >= 0].unique().tolist()
    means = torch.stack([features[labels == c].mean(dim=0) for c in classes])
    centred = means - means.mean(dim=0)
    between = centred.T @ centred / len(classes)
    within = torch.zeros_like(between)
    for c, mean in zip(classes, means, strict=True):
        rows = features[labels == c] - mean
        within += rows.T @ rows / len(rows) / len(classes)
    return float(torch.trace(within @ torch.linalg.pinv(between, rtol=1e-10)) / len(classes))


def test_nc1_is_its_definition_with_uneven_classes_and_unlabelled_rows() -> None:
    features, labels = spread(orthonormal(4, 9), 12, 0.3)
    labels[:7] = -1
    labels[labels == 2] = 11
    assert nc1(features, labels) == pytest.approx(nc1_by_definition(features, labels), rel=1e-9)


def test_nc1_limits() -> None:
    features, labels = spread(orthonormal(3, 8), 5, 0.0)
    assert nc1(features, labels) == pytest.approx(0, abs=1e-20)
    assert math.isnan(nc1(torch.ones(6, 4), torch.arange(6) % 2))
    symmetric = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0], [-2.0, 0.0]])
    assert nc1(symmetric, torch.tensor([0, 0, 1, 1])) == math.inf
    wide, narrow = spread(orthonormal(3, 8), 50, 0.2), spread(orthonormal(3, 8), 50, 0.1)
    assert nc1(*wide) > 2 * nc1(*narrow)


def test_only_uncentred_means_tell_orthonormal_from_simplex() -> None:
    k = 6
    labels = torch.arange(k).repeat(3)
    orthogonal, etf = orthonormal(k, 10).repeat(3, 1), simplex(k, 10).repeat(3, 1)
    assert orthogonal_frame_gap(orthogonal, labels) == pytest.approx(0, abs=1e-12)
    assert simplex_etf_gap(orthogonal, labels) == pytest.approx(0, abs=1e-12)
    assert simplex_etf_gap(etf, labels) == pytest.approx(0, abs=1e-12)
    # G = E = I - 11^T/K with |E| = sqrt(K - 1) and <E, I> = K - 1.
    assert orthogonal_frame_gap(etf, labels) == pytest.approx(math.sqrt(2 - 2 * math.sqrt((k - 1) / k)), rel=1e-9)


def test_gaps_of_equal_means() -> None:
    features, labels = torch.ones(12, 5), torch.arange(12) % 4
    assert orthogonal_frame_gap(features, labels) == pytest.approx(math.sqrt(2 - 2 / math.sqrt(4)), rel=1e-9)
    assert math.isnan(simplex_etf_gap(features, labels))


def test_invariances() -> None:
    features, labels = spread(orthonormal(5, 8), 10, 0.4)
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64))[0]
    order = torch.randperm(50)
    moved, renamed = 2.5 * features[order] @ rotation, (labels[order] * 7 + 3) % 40
    for measure in (nc1, orthogonal_frame_gap, simplex_etf_gap, within_class_effective_rank):
        assert measure(moved, renamed) == pytest.approx(measure(features, labels), rel=1e-9)
    shifted = features + torch.randn(8, dtype=torch.float64)
    for measure in (nc1, simplex_etf_gap, within_class_effective_rank):
        assert measure(shifted, labels) == pytest.approx(measure(features, labels), rel=1e-9)


def test_class_means_count_classes_equally() -> None:
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 5.0], [9.0, 9.0]])
    means, index = class_means(features, torch.tensor([4, 4, 9, -1]))
    assert means.tolist() == [[1.0, 0.0], [5.0, 5.0]]
    assert index.tolist() == [0, 0, 1, -1]


def test_prototype_alignment_is_one_minus_the_pull() -> None:
    prototypes = orthonormal(3, 7)
    labels = torch.tensor([0, 1, 2, -1])
    at = torch.cat([3 * prototypes, torch.randn(1, 7, dtype=torch.float64)])
    assert prototype_alignment(at, labels, prototypes) == pytest.approx(1)
    assert prototype_alignment(-at, labels, prototypes) == pytest.approx(-1)
    assert prototype_alignment(at.roll(1, dims=0)[1:], labels[:3].roll(0) * 0 + 2, prototypes) == pytest.approx(1 / 3)


def test_within_class_effective_rank() -> None:
    means = orthonormal(3, 20)
    labels = torch.arange(3).repeat_interleave(2)
    offsets = torch.randn(3, 20, dtype=torch.float64).repeat_interleave(2, dim=0)
    offsets[1::2] *= -1
    assert within_class_effective_rank(means[labels] + offsets, labels) == pytest.approx(1)  # a line in each class
    assert within_class_effective_rank(means[labels], labels) == 0
    flat, labels = spread(means, 400, 1.0)
    assert within_class_effective_rank(flat, labels) == pytest.approx(20, rel=0.02)


def test_geometry_leaves_out_what_is_undefined() -> None:
    features, labels = spread(orthonormal(3, 6), 10, 0.1)
    assert set(geometry(features, labels)) == {
        "nc1", "orthogonal_frame_gap", "simplex_etf_gap", "within_class_effective_rank"
    }  # fmt: skip
    assert set(geometry(torch.ones(6, 4), torch.arange(6) % 2)) == {
        "orthogonal_frame_gap", "within_class_effective_rank"
    }  # fmt: skip
    assert set(geometry(torch.zeros(6, 4), torch.arange(6) % 2)) == {"within_class_effective_rank"}


def test_bad_input_is_named() -> None:
    x, y = torch.rand(4, 3), torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match="labels must hold two classes or more, but hold 1"):
        nc1(x, y * 0)
    with pytest.raises(ValueError, match="labels must hold at least one label >= 0, but all are -1"):
        class_means(x, y * 0 - 1)
    with pytest.raises(ValueError, match="labels must be >= 0, or -1 for unlabelled, but holds -2"):
        class_means(x, y - 2)
    with pytest.raises(ValueError, match="embeddings have 3 dimensions but prototypes 4"):
        prototype_alignment(x, y, torch.eye(4))
    with pytest.raises(ValueError, match="labels must be below the number of prototypes, 1, but hold 1"):
        prototype_alignment(x, y, torch.ones(1, 3))
    with pytest.raises(ValueError, match="all are -1"):
        prototype_alignment(x, y * 0 - 1, torch.ones(1, 3))


@pytest.mark.parametrize("chunk", [1, 1 << 25])
def test_within_class_ranks_at_once_are_those_of_each_class(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry_module, "_CHUNK_VALUES", chunk)
    draws = torch.Generator().manual_seed(5)
    features, labels = torch.randn(90, 12, generator=draws), torch.randint(-1, 5, (90,), generator=draws)
    labels[labels == 3] = 7  # a class that does not occur, and uneven counts
    labels[:30] = 0
    features[labels == 4] = features[0].clone()  # one point
    expected = [effective_rank(features[labels == k], centre=True) for k in (0, 1, 2, 4, 7)]
    assert expected[3] == 0
    assert within_class_effective_rank(features, labels) == pytest.approx(sum(expected) / 5, rel=1e-9)
