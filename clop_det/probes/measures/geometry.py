"""Where the classes lie: neural-collapse measures on class means, and alignment with prototypes.

Class means are taken with every class counting the same, whatever its number of images.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from clop_det.probes.measures.checks import check_features, check_labels
from clop_det.probes.measures.spectrum import centred, effective_ranks_of, gram_singular_values

_CHUNK_VALUES = 1 << 25  # float64 held at once for the spectra of the classes: 256 MB


def class_means(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean feature of each class that has a row.

    Args:
        features: (N, D).
        labels: (N,) integers; rows with -1 are left out.

    Returns:
        means (C, D) float64 and, for each row of `features`, the index (N,) of its mean (-1 for unlabelled).

    Raises:
        ValueError: shapes, dtypes or values break the rules above, or no row is labelled.
    """
    features = check_features("features", features).double()
    labels = check_labels("labels", labels, len(features), allow_unlabelled=True).to(features.device)
    labelled = labels >= 0
    if not bool(labelled.any()):
        raise ValueError("labels must hold at least one label >= 0, but all are -1")
    classes, compact = torch.unique(labels[labelled], return_inverse=True)
    sums = features.new_zeros(len(classes), features.shape[1]).index_add_(0, compact, features[labelled])
    index = torch.full_like(labels, -1)
    index[labelled] = compact
    return sums / compact.bincount(minlength=len(classes))[:, None], index


def nc1(features: Tensor, labels: Tensor) -> float:
    """NC1 (Papyan, Han and Donoho 2020): trace(S_W pinv(S_B)) / C, within-class over between-class scatter.

    0 when each class is one point; infinite when classes vary but their means are equal; nan when nothing varies.

    Args:
        features: (N, D).
        labels: (N,); -1 is left out. Two classes or more.

    Raises:
        ValueError: as `class_means`, or a single class.
    """
    means, index = _means_of_two_or_more(features, labels)
    labelled = index >= 0
    rows, index = features.detach()[labelled].double(), index[labelled]
    within = rows - means[index]
    centred = means - means.mean(dim=0)
    _, s, axes = torch.linalg.svd(centred, full_matrices=False)
    kept = s > s.new_tensor(1e-10) * torch.linalg.vector_norm(means)
    if not bool(kept.any()):
        return math.nan if float(within.abs().max()) <= 1e-10 * float(rows.abs().max()) else math.inf
    # S_B = V diag(s^2 / C) V^T, so pinv(S_B) weighs the within-class scatter along axis j by C / s_j^2.
    along = (within @ axes[kept].T).square() * (len(means) / s[kept].square())
    per_row = index.bincount().double().reciprocal()[index]
    return float((along.sum(dim=1) * per_row).sum() / len(means) / len(means))


def orthogonal_frame_gap(features: Tensor, labels: Tensor) -> float:
    """How far the uncentred class means are from an orthogonal frame: |G/|G| - I/sqrt(C)|, G their Gram matrix.

    Frobenius norms, as in Zhu et al. 2021 (arXiv 2105.02375, NC2), without the centring. 0 for orthogonal means of
    equal length, which is what CLOP asks for; sqrt(2 - 2/sqrt(C)) when all means are equal.

    Args:
        features: (N, D).
        labels: (N,); -1 is left out. Two classes or more.

    Raises:
        ValueError: as `class_means`, or a single class.
    """
    means, _ = _means_of_two_or_more(features, labels)
    return _gram_gap(means, torch.eye(len(means), dtype=means.dtype, device=means.device))


def simplex_etf_gap(features: Tensor, labels: Tensor) -> float:
    """How far the centred class means are from a simplex equiangular tight frame (NC2 of Zhu et al. 2021).

    |G/|G| - E/|E|| with G the Gram matrix of the means minus their mean and E = I - 11^T/C. 0 for a simplex ETF, and
    also for any orthogonal frame of equal lengths, whose centred vectors form one. nan when all means are equal.

    Args:
        features: (N, D).
        labels: (N,); -1 is left out. Two classes or more.

    Raises:
        ValueError: as `class_means`, or a single class.
    """
    means, _ = _means_of_two_or_more(features, labels)
    centred = means - means.mean(dim=0)
    if torch.linalg.vector_norm(centred) <= 1e-10 * torch.linalg.vector_norm(means):
        return math.nan
    eye = torch.eye(len(means), dtype=means.dtype, device=means.device)
    return _gram_gap(centred, eye - 1 / len(means))


def prototype_alignment(embeddings: Tensor, labels: Tensor, prototypes: Tensor) -> float:
    """Mean cosine between each labelled embedding and its class's prototype: 1 minus CLOP's pull on these rows.

    Args:
        embeddings: (N, d).
        labels: (N,); -1 is left out.
        prototypes: (K, d), row k for class k.

    Raises:
        ValueError: shapes, dtypes or values break the rules above, no row is labelled, or a label is >= K.
    """
    embeddings, prototypes = check_features("embeddings", embeddings), check_features("prototypes", prototypes)
    labels = check_labels("labels", labels, len(embeddings), allow_unlabelled=True).to(embeddings.device)
    if embeddings.shape[1] != prototypes.shape[1]:
        raise ValueError(f"embeddings have {embeddings.shape[1]} dimensions but prototypes {prototypes.shape[1]}")
    labelled = labels >= 0
    if not bool(labelled.any()):
        raise ValueError("labels must hold at least one label >= 0, but all are -1")
    if int(labels.max()) >= len(prototypes):
        raise ValueError(f"labels must be below the number of prototypes, {len(prototypes)}, but hold {labels.max()}")
    own = prototypes.to(embeddings)[labels[labelled]]
    return float(F.cosine_similarity(embeddings[labelled], own, dim=1).double().mean())


def within_class_effective_rank(features: Tensor, labels: Tensor) -> float:
    """Mean over classes of the effective rank of a class's features around their mean; 0 when each class is a point.

    Args:
        features: (N, D).
        labels: (N,); -1 is left out.

    Raises:
        ValueError: as `class_means`.
    """
    _, index = class_means(features, labels)
    order = index.argsort(stable=True)[(index < 0).sum() :]
    sizes = index[order].bincount().tolist()
    classes = [centred(rows) for rows in torch.split(features.detach()[order].double(), sizes)]
    rows, dim = max(sizes), features.shape[1]
    at_once = max(1, _CHUNK_VALUES // (rows * dim + min(rows, dim) ** 2))
    # Classes of fewer rows are filled up with zeros, which add singular values of 0.
    batches = (
        pad_sequence(classes[first : first + at_once], batch_first=True) for first in range(0, len(classes), at_once)
    )
    return float(torch.cat([effective_ranks_of(gram_singular_values(batch)) for batch in batches]).mean())


def geometry(features: Tensor, labels: Tensor) -> dict[str, float]:
    """Every measure of this module that needs no prototypes, by name; what is undefined or infinite is left out.

    Args:
        features: (N, D).
        labels: (N,); -1 is left out. Two classes or more.

    Raises:
        ValueError: as `class_means`, or a single class.
    """
    values = {
        "nc1": nc1(features, labels),
        "orthogonal_frame_gap": orthogonal_frame_gap(features, labels),
        "simplex_etf_gap": simplex_etf_gap(features, labels),
        "within_class_effective_rank": within_class_effective_rank(features, labels),
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _means_of_two_or_more(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    means, index = class_means(features, labels)
    if len(means) < 2:
        raise ValueError(f"labels must hold two classes or more, but hold {len(means)}")
    return means, index


def _gram_gap(means: Tensor, target: Tensor) -> float:
    gram = means @ means.T
    norm = torch.linalg.matrix_norm(gram)
    if not norm > 0:
        return math.nan
    return float(torch.linalg.matrix_norm(gram / norm - target / torch.linalg.matrix_norm(target)))
