"""LeJEPA: views agree, and random projections of their embeddings look Gaussian (SIGReg)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from clop_det.keys import at_least, between
from clop_det.losses.base import Loss
from clop_det.losses.batch import Batch
from clop_det.losses.registry import register_loss

KNOTS, LAST_KNOT = 17, 3.0


@register_loss(
    "lejepa",
    {
        "REGULARISATION": ("Weight lambda of SIGReg; the agreement has 1 - lambda.", between(0, 1)),
        "SLICES": ("Random directions a step.", at_least(1)),
        "SEED": ("Seed of the directions.", at_least(0)),
    },
)
class LeJEPA(Loss):
    """Agreement of the views and sketched isotropic Gaussian regularisation.

        lambda * mean_v SIGReg(Z_v)  +  (1 - lambda) * mean |Z_v - mean_v Z_v|^2
        SIGReg(Z) = N mean_a  int |1/N sum_n exp(i t a . z_n) - exp(-t^2/2)|^2 exp(-t^2/2) dt

    over random unit directions a, drawn anew at every step from the loss's own seed and a count that is saved with it,
    so that every rank and a resumed run draw the same; the integral by the trapezoidal rule on [-3, 3]. Embeddings as
    they come, labels are not used. Source: Balestriero and LeCun 2025 (LeJEPA, arXiv 2511.08544), section 5.

    Args:
        regularisation: lambda, from 0 to 1.
        slices: number of directions, at least 1.
        seed: of the directions, at least 0.

    Raises:
        ValueError: an argument out of range.
    """

    min_images = 2
    step: Tensor

    def __init__(self, regularisation: float = 0.05, slices: int = 256, seed: int = 0) -> None:
        super().__init__()
        if not 0 <= regularisation <= 1:
            raise ValueError(f"regularisation={regularisation}: must be at least 0 and at most 1")
        for argument, value, lowest in (("slices", slices, 1), ("seed", seed, 0)):
            if value < lowest:
                raise ValueError(f"{argument}={value}: must be at least {lowest}")
        self.regularisation, self.slices, self.seed = regularisation, slices, seed
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Two terms: `lejepa_sigreg`, `lejepa_invariance`."""
        directions = self._directions(batch.embeddings)
        first, second = batch.views
        gaussian = (sigreg(first, directions) + sigreg(second, directions)) / 2
        # Both views are as far from their mean: half the difference.
        invariance = ((first - second) / 2).square().mean()
        return {
            "lejepa_sigreg": self.regularisation * gaussian,
            "lejepa_invariance": (1 - self.regularisation) * invariance,
        }

    def _directions(self, embeddings: Tensor) -> Tensor:
        """(d, M) unit columns of this step."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + int(self.step))
        drawn = torch.randn(embeddings.shape[1], self.slices, dtype=torch.float64, generator=generator)
        return torch.nn.functional.normalize(drawn, dim=0).to(embeddings)

    def after_step(self) -> None:
        """The next step draws other directions."""
        self.step += 1

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"regularisation={self.regularisation}, slices={self.slices}"


def sigreg(rows: Tensor, directions: Tensor) -> Tensor:
    """SIGReg of (N, d) rows along (d, M) unit directions, scalar; memory O(N M) for each of the 17 knots in turn."""
    projected = rows @ directions
    step = LAST_KNOT / (KNOTS - 1)
    total = projected.new_zeros(())
    for knot in range(KNOTS):
        t = knot * step
        gaussian = math.exp(-t * t / 2)
        # The integrand is even: both halves in one, and at 0 and at the ends half a step of each.
        weight = step * (1 if knot in (0, KNOTS - 1) else 2) * gaussian
        angle = t * projected
        error = (angle.cos().mean(0) - gaussian).square() + angle.sin().mean(0).square()
        total = total + weight * error.mean()
    return total * len(rows)
