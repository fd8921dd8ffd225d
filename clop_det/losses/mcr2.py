"""Maximal coding rate reduction: classes compressed, all of them together spread out."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.keys import above
from clop_det.losses.base import Loss, check_positive
from clop_det.losses.batch import Batch
from clop_det.losses.registry import register_loss


@register_loss("mcr2", {"EPSILON": ("Squared precision eps of the code.", above(0))})
class MCR2(Loss):
    """Coding rate of each class less that of the batch; its minimum has orthogonal class subspaces.

        sum_k N_k/N R(Z_k) - R(Z),   R(Z) = 1/2 logdet(I + d / (n eps) Z^T Z),   Z (n, d) unit rows

    The first sum runs over the labelled views, N of them; R(Z) over all views (ours: without labels it is the
    expansion alone). Source: Yu et al. 2020 (MCR^2, arXiv 2006.08558), equation 8. It is the theory of what CLOP's
    orthonormal prototypes ask for.

    Args:
        epsilon: squared precision eps > 0 of the code.

    Raises:
        ValueError: epsilon not above 0.
    """

    def __init__(self, epsilon: float = 0.5) -> None:
        super().__init__()
        self.epsilon = check_positive("epsilon", epsilon)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Two terms: `mcr2_compression`, `mcr2_expansion`."""
        labels = batch.view_labels
        compression = (0 * batch.unit).sum()
        for label in torch.unique(labels[labels >= 0]):
            rows = batch.unit[labels == label]
            compression = compression + len(rows) * self._rate(rows)
        compression = compression / (labels >= 0).sum().clamp(min=1)
        return {"mcr2_compression": compression, "mcr2_expansion": -self._rate(batch.unit)}

    def _rate(self, rows: Tensor) -> Tensor:
        count, dim = rows.shape
        # The smaller of the two Gram matrices has the same determinant.
        gram = rows.t() @ rows if dim <= count else rows @ rows.t()
        eye = torch.eye(len(gram), dtype=rows.dtype, device=rows.device)
        rate: Tensor = torch.linalg.slogdet(eye + dim / (count * self.epsilon) * gram)[1] / 2
        return rate

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"epsilon={self.epsilon}"
