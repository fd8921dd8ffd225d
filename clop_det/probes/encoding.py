"""All probes of an encoder in one call, deterministic: what both trainers report at every evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from clop_det.probes.measures.geometry import geometry
from clop_det.probes.measures.knn import knn_top1
from clop_det.probes.measures.linear import linear_probe
from clop_det.probes.measures.spectrum import rankme


class ImageSequence(Protocol):
    """Images (N, 3, H, W) that are read batch by batch: a tensor, or anything that can be sliced into tensors."""

    @property
    def shape(self) -> Sequence[int]:
        """(N, 3, H, W)."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


def encode_images(encode: Callable[[Tensor], Tensor], images: ImageSequence, batch_size: int = 256) -> Tensor:
    """Features (N, D) float32 of `images` (N, 3, H, W), read and encoded `batch_size` at a time, in order.

    Raises:
        ValueError: no image, or `encode` does not return one row per image.
    """
    if len(images) < 1:
        raise ValueError(f"images must hold at least one image, but their shape is {tuple(images.shape)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be >= 1, but is {batch_size}")
    features = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        encoded = encode(batch)
        if encoded.ndim != 2 or len(encoded) != len(batch):
            raise ValueError(
                f"encode must return ({len(batch)}, D) for {len(batch)} images, but returned {tuple(encoded.shape)}"
            )
        features.append(encoded.detach().float())
    return torch.cat(features)


def probe_features(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    ks: Sequence[int] = (20, 200),
    temperature: float = 0.07,
) -> dict[str, float]:
    """The probes on features that are already at hand; see `run_probes`.

    Args:
        bank: features (N, D).
        bank_labels: (N,) integers >= 0.
        queries: features (M, D).
        query_labels: (M,) integers >= 0.
        ks: numbers of neighbours; the first is the headline.
        temperature: of the kNN vote.

    Raises:
        ValueError: shapes, dtypes or values break the rules above, or a feature is not finite.
    """
    accuracies = knn_top1(bank, bank_labels, queries, query_labels, ks, temperature)
    results = {"knn_top1": accuracies[ks[0]]}
    results |= {f"knn{k}_top1": accuracies[k] for k in ks[1:]}
    results |= linear_probe(bank, bank_labels, queries, query_labels)
    results["rankme"] = rankme(bank)
    if len(torch.unique(bank_labels)) > 1:
        results |= geometry(bank, bank_labels)
    return results


def run_probes(
    encode: Callable[[Tensor], Tensor],
    bank_images: ImageSequence,
    bank_labels: Tensor,
    query_images: ImageSequence,
    query_labels: Tensor,
    *,
    ks: Sequence[int] = (20, 200),
    batch_size: int = 256,
    temperature: float = 0.07,
) -> dict[str, float]:
    """Encode the images and probe the features.

    Args:
        encode: images (n, 3, H, W) uint8 -> features (n, D); normalisation, evaluation mode, no_grad and the device
            are its affair.
        bank_images: (N, 3, H, W) uint8 RGB, the training part of every probe.
        bank_labels: (N,) integers >= 0.
        query_images: (M, 3, H, W) uint8 RGB, the test part.
        query_labels: (M,) integers >= 0.
        ks: numbers of neighbours; the first is the headline.
        batch_size: images encoded at once.
        temperature: of the kNN vote.

    Returns:
        flat floats: `knn_top1` (fraction, first k), `knn<k>_top1` (each further k), `linear_top1` (fraction),
        `linear_l2` (the penalty chosen), and on the bank's features `rankme` and those of `nc1`,
        `orthogonal_frame_gap`, `simplex_etf_gap`, `within_class_effective_rank` that are finite.

    Raises:
        ValueError: shapes, dtypes or values break the rules above, or a feature is not finite.
    """
    bank = encode_images(encode, bank_images, batch_size)
    queries = encode_images(encode, query_images, batch_size)
    return probe_features(bank, bank_labels, queries, query_labels, ks=ks, temperature=temperature)
