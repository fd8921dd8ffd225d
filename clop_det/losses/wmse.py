"""W-MSE: views agree after whitening, which leaves no direction to collapse into."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.keys import between
from clop_det.losses.base import Loss
from clop_det.losses.batch import Batch, NonFiniteError
from clop_det.losses.registry import register_loss


@register_loss("wmse", {"EPSILON": ("Share of the identity in the covariance that is whitened.", between(0, 1, "[)"))})
class WMSE(Loss):
    """Squared distance of the unit whitened views.

        mean_i  2 - 2 cos(W z_i, W' z'_i),   W = L^-1,  L L^T = (1 - eps) cov + eps I of the N centred first views

    and W' likewise of the second views. Labels are not used; the N images should outnumber the d dimensions (twice as
    many are advised). Source: Ermolov et al. 2021 (W-MSE, arXiv 2007.06346), equations 3-5.

    Args:
        embedding_dim: d.
        epsilon: share eps of the identity in the covariance, from 0 to below 1; 0 is the paper's.

    Raises:
        ValueError: epsilon out of range.
        NonFiniteError: (from a call) embeddings that span fewer than d dimensions, with epsilon 0.
    """

    def __init__(self, embedding_dim: int, epsilon: float = 1e-3) -> None:
        super().__init__()
        if not 0 <= epsilon < 1:
            raise ValueError(f"epsilon={epsilon}: must be at least 0 and below 1")
        self.embedding_dim = embedding_dim
        self.min_images = embedding_dim + 1 if epsilon == 0 else 2
        self.epsilon = epsilon

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `wmse`."""
        first, second = (self._whitened(rows) for rows in batch.views)
        return {"wmse": (2 - 2 * torch.nn.functional.cosine_similarity(first, second)).mean()}

    def _whitened(self, rows: Tensor) -> Tensor:
        rows = rows - rows.mean(0)
        covariance = rows.t() @ rows / (len(rows) - 1)
        eye = torch.eye(len(covariance), dtype=rows.dtype, device=rows.device)
        factor, failed = torch.linalg.cholesky_ex((1 - self.epsilon) * covariance + self.epsilon * eye)
        if bool(failed):
            raise NonFiniteError(
                f"embeddings: they span fewer than their {len(eye)} dimensions and cannot be whitened; raise EPSILON"
            )
        white: Tensor = torch.linalg.solve_triangular(factor, rows.t(), upper=False).t()
        return white

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"epsilon={self.epsilon}"
