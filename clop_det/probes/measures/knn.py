"""Weighted k-nearest-neighbour classification of frozen features (Wu et al. 2018, arXiv 1805.01978, section 3.4)."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.probes.measures.checks import check_features, check_labels

logger = logging.getLogger(__name__)

# Similarities held at once: 64 MiB in float32, whatever the sizes of the bank and of the queries.
_CHUNK_ELEMENTS = 1 << 24
# Numbers of the bank that are normalised at once: 1 GiB in float32.
_BLOCK_ELEMENTS = 1 << 28


def knn_predict(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    ks: Sequence[int] = (20, 200),
    temperature: float = 0.07,
) -> dict[int, Tensor]:
    """Class of each query by a vote of its k nearest bank features, each voting with exp(cosine / temperature).

    A k above the size of the bank means the whole bank, and a log line says so. Equal votes go to the lower class.
    Beside bank and queries it holds a block of the bank, the similarities of some queries to it, and the neighbours.

    Args:
        bank: features (N, D); bank and queries are L2-normalised here.
        bank_labels: (N,) integers >= 0.
        queries: features (M, D).
        ks: numbers of neighbours; several cost little more than the largest alone.
        temperature: of the vote, > 0.

    Returns:
        for each k of `ks`, the predicted labels (M,) int64 on the device of `queries`.

    Raises:
        ValueError: shapes, dtypes or values break the rules above, or a feature is not finite.
    """
    bank, queries = check_features("bank", bank), check_features("queries", queries)
    bank_labels = check_labels("bank_labels", bank_labels, len(bank)).to(queries.device)
    if bank.shape[1] != queries.shape[1]:
        raise ValueError(f"bank has {bank.shape[1]} dimensions but queries have {queries.shape[1]}")
    if not ks or any(k < 1 for k in ks):
        raise ValueError(f"ks must be one or more integers >= 1, but is {tuple(ks)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, but is {temperature}")
    for k in ks:
        if k > len(bank):
            logger.warning("kNN with k = %d uses the whole bank, which has only %d images", k, len(bank))
    queries = F.normalize(queries, dim=1)
    num_classes = int(bank_labels.max()) + 1
    rows = max(1, _BLOCK_ELEMENTS // bank.shape[1])
    chunks = torch.split(queries, max(1, _CHUNK_ELEMENTS // min(rows, len(bank))))
    nearest: list[_Nearest | None] = [None] * len(chunks)
    for start in range(0, len(bank), rows):
        block = F.normalize(bank[start : start + rows].to(queries), dim=1)
        for number, chunk in enumerate(chunks):
            nearest[number] = _joined(nearest[number], _nearest(chunk @ block.T, max(ks), start), max(ks))
    votes = [_vote(*found, bank_labels, num_classes, ks, temperature) for found in nearest if found is not None]
    return {k: torch.cat([vote[k] for vote in votes]) for k in ks}


_Nearest = tuple[Tensor, Tensor]  # similarities (m, k) of a chunk's nearest bank features, largest first; their indices


def _nearest(similarity: Tensor, k: int, start: int) -> _Nearest:
    """From the similarities (m, n) to the bank features `start`, `start` + 1, ..."""
    values, indices = similarity.topk(min(k, similarity.shape[1]), dim=1)
    return values, indices + start


def _joined(first: _Nearest | None, second: _Nearest, k: int) -> _Nearest:
    if first is None:
        return second
    values, indices = (torch.cat(pair, dim=1) for pair in zip(first, second, strict=True))
    values, order = values.topk(min(k, values.shape[1]), dim=1)
    return values, indices.gather(1, order)


def _vote(
    nearest: Tensor, indices: Tensor, bank_labels: Tensor, num_classes: int, ks: Sequence[int], temperature: float
) -> dict[int, Tensor]:
    """Votes of a chunk of queries; the votes for a larger k continue those for a smaller one."""
    # A row's weights, all divided by the largest: the same vote, and no overflow at a small temperature.
    weights = ((nearest - nearest[:, :1]) / temperature).exp()
    neighbour_labels = bank_labels[indices]
    votes = weights.new_zeros(len(nearest), num_classes)
    predictions, counted = {}, 0
    for k in sorted(set(ks)):
        upto = min(k, nearest.shape[1])
        votes.scatter_add_(1, neighbour_labels[:, counted:upto], weights[:, counted:upto])
        predictions[k], counted = votes.argmax(dim=1), upto
    return predictions


def knn_top1(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    ks: Sequence[int] = (20, 200),
    temperature: float = 0.07,
) -> dict[int, float]:
    """Top-1 accuracy, as a fraction 0..1, of `knn_predict` for each k of `ks`.

    Args:
        bank: features (N, D).
        bank_labels: (N,).
        queries: features (M, D).
        query_labels: (M,) integers >= 0.
        ks: numbers of neighbours.
        temperature: of the vote, > 0.

    Raises:
        ValueError: as `knn_predict`.
    """
    predictions = knn_predict(bank, bank_labels, queries, ks, temperature)
    query_labels = check_labels("query_labels", query_labels, len(queries)).to(queries.device)
    return {k: float((predicted == query_labels).double().mean()) for k, predicted in predictions.items()}
