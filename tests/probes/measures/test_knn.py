from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.probes.measures.knn import _CHUNK_ELEMENTS, knn_predict, knn_top1


def blobs(n: int, seed: int, classes: int = 7, dim: int = 16) -> tuple[Tensor, Tensor]:
    """Overlapping classes in float64, so that the vote is contested and accuracies lie well inside (0, 1)."""
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=generator)
    return centres[labels] + 2.0 * torch.randn(n, dim, generator=generator, dtype=torch.float64), labels


@pytest.mark.parametrize("k", [1, 20, 200])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_every_vote_is_sklearns(k: int, temperature: float) -> None:
    sklearn = pytest.importorskip("sklearn.neighbors")
    bank, labels = blobs(600, 0)
    queries, _ = blobs(300, 1)
    oracle = sklearn.KNeighborsClassifier(
        n_neighbors=k, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / temperature)
    )
    oracle.fit(bank.numpy(), labels.numpy())
    expected = torch.from_numpy(oracle.predict(queries.numpy()))
    assert torch.equal(knn_predict(bank, labels, queries, (k,), temperature)[k], expected)
    assert len(expected.unique()) > 3


@pytest.mark.parametrize("k", [5, 50])
def test_every_vote_is_lightlys(k: int) -> None:
    benchmarking = pytest.importorskip("lightly.utils.benchmarking")
    bank, labels = blobs(500, 2)
    queries, _ = blobs(200, 3)
    ranked = benchmarking.knn_predict(
        F.normalize(queries, dim=1), F.normalize(bank, dim=1).T, labels, num_classes=7, knn_k=k, knn_t=0.07
    )
    assert torch.equal(knn_predict(bank, labels, queries, (k,), 0.07)[k], ranked[:, 0])


def test_several_k_at_once_are_each_k_alone_in_any_order() -> None:
    bank, labels = blobs(150, 4)
    queries, _ = blobs(80, 5)
    together = knn_predict(bank, labels, queries, (30, 1, 7, 30))
    for k in (1, 7, 30):
        assert torch.equal(together[k], knn_predict(bank, labels, queries, (k,))[k])
    assert not torch.equal(together[1], together[30])


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, labels = blobs(100, 6)
    queries, _ = blobs(33, 7)
    whole = knn_predict(bank, labels, queries, (5,))[5]
    assert _CHUNK_ELEMENTS > 33 * 100
    monkeypatch.setattr("clop_det.probes.measures.knn._CHUNK_ELEMENTS", 700)
    assert torch.equal(knn_predict(bank, labels, queries, (5,))[5], whole)


@pytest.mark.parametrize("rows", [1, 7, 99, 100])
def test_blocks_of_the_bank_do_not_change_the_result(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bank, labels = blobs(100, 6)
    queries, _ = blobs(33, 7)
    whole = knn_predict(bank, labels, queries, (1, 5, 200))
    monkeypatch.setattr("clop_det.probes.measures.knn._BLOCK_ELEMENTS", rows * bank.shape[1])
    monkeypatch.setattr("clop_det.probes.measures.knn._CHUNK_ELEMENTS", 10 * rows)
    found = knn_predict(bank, labels, queries, (1, 5, 200))
    assert all(torch.equal(found[k], whole[k]) for k in whole)


def test_votes_are_weighted_by_similarity() -> None:
    # One neighbour at the query against two at 60 degrees: exp((1 - 0.5) / T) > 2 exactly when T < 0.5 / ln 2.
    bank = torch.tensor([[1.0, 0.0], [0.5, math.sqrt(0.75)], [0.5, -math.sqrt(0.75)]])
    labels = torch.tensor([1, 0, 0])
    query = torch.tensor([[2.0, 0.0]])
    turning = 0.5 / math.log(2)
    assert knn_predict(bank, labels, query, (3,), 0.99 * turning)[3].tolist() == [1]
    assert knn_predict(bank, labels, query, (3,), 1.01 * turning)[3].tolist() == [0]


def test_a_tiny_temperature_is_the_nearest_neighbour_and_does_not_overflow() -> None:
    bank, labels = blobs(200, 8)
    queries, _ = blobs(50, 9)
    predicted = knn_predict(bank.float(), labels, queries.float(), (1, 100), 1e-4)
    assert torch.equal(predicted[1], predicted[100])


def test_only_directions_count_and_rotations_change_nothing() -> None:
    bank, labels = blobs(200, 10)
    queries, truth = blobs(100, 11)
    rotation = torch.linalg.qr(torch.randn(16, 16, dtype=torch.float64))[0]
    lengths = torch.rand(200, 1, dtype=torch.float64) + 0.1
    plain = knn_top1(bank, labels, queries, truth, (5, 20))
    assert knn_top1(3 * bank * lengths @ rotation, labels, 7 * queries @ rotation, truth, (5, 20)) == plain
    order = torch.randperm(200)
    assert knn_top1(bank[order], labels[order], queries, truth, (5, 20)) == plain
    assert 0.2 < plain[20] < 0.98


def test_top1_is_the_fraction_of_right_votes() -> None:
    bank = torch.eye(3)
    assert knn_top1(bank, torch.tensor([0, 1, 2]), bank, torch.tensor([0, 1, 0]), (1,)) == {1: pytest.approx(2 / 3)}
    # A query class that the bank lacks can only be wrong.
    assert knn_top1(bank, torch.tensor([0, 1, 2]), bank, torch.tensor([0, 9, 2]), (1,)) == {1: pytest.approx(2 / 3)}


def test_k_above_the_bank_is_the_whole_bank_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    bank, labels = blobs(30, 12)
    queries, _ = blobs(20, 13)
    with caplog.at_level(logging.WARNING):
        predicted = knn_predict(bank, labels, queries, (30, 200))
    assert torch.equal(predicted[30], predicted[200])
    assert [record.getMessage() for record in caplog.records] == [
        "kNN with k = 200 uses the whole bank, which has only 30 images"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bank": torch.zeros(0, 4), "bank_labels": torch.zeros(0).long()}, r"bank must be a matrix .*\(0, 4\)"),
        ({"bank": torch.full((5, 4), math.nan)}, "bank must be finite, but 5 of 5 rows are not"),
        ({"bank": torch.zeros(5, 4).long()}, "bank must be floating point, but its dtype is torch.int64"),
        ({"queries": torch.ones(2, 3)}, "bank has 4 dimensions but queries have 3"),
        ({"bank_labels": torch.zeros(4).long()}, r"bank_labels must have shape \(5,\)"),
        ({"bank_labels": torch.zeros(5)}, "bank_labels must be integers"),
        ({"bank_labels": torch.tensor([0, 1, -1, 0, 1])}, "bank_labels must be >= 0 .*but holds -1"),
        ({"ks": ()}, "ks must be one or more integers >= 1"),
        ({"ks": (0,)}, r"ks must be .* but is \(0,\)"),
        ({"temperature": 0.0}, "temperature must be > 0, but is 0.0"),
        ({"temperature": math.nan}, "temperature must be > 0, but is nan"),
    ],
)
def test_bad_input_is_named(changes: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        "bank": torch.ones(5, 4),
        "bank_labels": torch.zeros(5).long(),
        "queries": torch.ones(2, 4),
        "ks": (1,),
        "temperature": 0.1,
    }
    knn_predict(**good)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        knn_predict(**{**good, **changes})  # type: ignore[arg-type]
