"""A frame of K > d unit vectors: as close to orthogonal as a search finds."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.losses.prototypes import coherence, orthonormal_prototypes, random_unit

# The largest cosine is approached through norms of rising order; each order starts from the frame of the one before.
_ORDERS = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
# Steps at each order; large frames get fewer, which costs them a few percent of coherence and saves minutes.
_MOST_STEPS, _FEWEST_STEPS, _ENTRIES_OF_ALL_STEPS = 100, 30, 1 << 22
# Small frames have local minima and cost nothing to try again; large ones end close to each other.
_MAX_RESTARTS = 8
_ENTRIES_OF_ALL_RESTARTS = 1 << 17


def low_coherence_frame(num_classes: int, dim: int, seed: int = 0) -> Tensor:
    """K unit rows in R^d whose largest absolute cosine is the lowest found; orthonormal if K <= d.

    Descent on the norms sum |cos|^p with p from 4 to 1024, from random starts. No guarantee of the optimum: compare
    `coherence` with `welch_bound`. Seconds for K = 200, about 15 s of one core for K = 1000, d = 512.

    Args:
        num_classes: K.
        dim: d, at least 1.
        seed: of these prototypes alone, at least 0.

    Returns:
        (K, d) float32.

    Raises:
        ValueError: a number out of range.
    """
    if num_classes <= dim:
        return orthonormal_prototypes(num_classes, dim, seed)
    if dim == 1:
        return random_unit(num_classes, dim, seed)
    restarts = max(1, min(_MAX_RESTARTS, _ENTRIES_OF_ALL_RESTARTS // num_classes**2))
    # One large draw, cut up: the seed of this frame stays the only seed.
    starts = random_unit(restarts * num_classes, dim, seed).view(restarts, num_classes, dim)
    frames: list[Tensor] = list(_descend(starts))
    return min(frames, key=coherence)


def _descend(starts: Tensor) -> Tensor:
    """Descend from each of (R, K, d) starts by itself, all at once."""
    raw = starts.clone().requires_grad_()
    steps = min(_MOST_STEPS, max(_FEWEST_STEPS, _ENTRIES_OF_ALL_STEPS // starts.shape[1] ** 2))
    with torch.enable_grad():
        for stage, order in enumerate(_ORDERS):
            optimizer = torch.optim.Adam([raw], lr=0.05 * 0.6**stage)
            for _ in range(steps):
                optimizer.zero_grad()
                norms = _log_norms(torch.nn.functional.normalize(raw, dim=2), order)
                torch.autograd.backward(norms.sum())
                optimizer.step()
    return torch.nn.functional.normalize(raw.detach(), dim=2)


def _log_norms(frames: Tensor, order: int) -> Tensor:
    """Per frame, the log of the p-norm of the cosines between different rows."""
    squares = (frames @ frames.transpose(1, 2)).square()
    squares = squares - torch.diag_embed(squares.diagonal(dim1=1, dim2=2))
    norms: Tensor = torch.logsumexp(squares.clamp(min=1e-30).log().flatten(1) * (order / 2), dim=1) / order
    return norms
