"""Whether embeddings have collapsed: the figures that collapse theory speaks of, on what the loss sees."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.probes.measures.checks import check_features
from clop_det.probes.measures.spectrum import gram_singular_values, rankme_of


def mean_norm(embeddings: Tensor) -> float:
    """Norm of the mean of the rows' directions: 0 for a balanced cloud, 1 where all rows point one way.

    Rows are L2-normalised here; a row of zeros has no direction and counts as zero.

    Raises:
        ValueError: not a finite floating-point matrix (N, d).
    """
    directions = F.normalize(check_features("embeddings", embeddings).double(), dim=1)
    return float(directions.mean(dim=0).norm())


def embedding_figures(embeddings: Tensor) -> dict[str, float]:
    """What a contrastive loss sees of its embeddings, as flat floats.

    Args:
        embeddings: (N, d) projector outputs, as they come (not normalised).

    Returns:
        `embedding_mean_norm` (see `mean_norm`), `embedding_rankme` (RankMe of the unit rows: 1 where all are colinear,
        at most min(N, d)), and `embedding_length` (mean length before normalisation: the step that a learning rate
        turns the directions by falls with its square).

    Raises:
        ValueError: not a finite floating-point matrix.
    """
    embeddings = check_features("embeddings", embeddings).double()
    return {
        "embedding_mean_norm": mean_norm(embeddings),
        "embedding_rankme": rankme_of(gram_singular_values(F.normalize(embeddings, dim=1))),
        "embedding_length": float(torch.linalg.vector_norm(embeddings, dim=1).mean()),
    }
