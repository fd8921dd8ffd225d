"""SwAV on fixed prototypes: CLOP's prototypes with balanced pseudo-labels for the images without a label."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.keys import above, at_least
from clop_det.losses.base import check_positive
from clop_det.losses.batch import Batch
from clop_det.losses.prototype_scores import TEMPERATURE, PrototypeLoss, register_prototype_loss


@register_prototype_loss(
    "swav_prototypes",
    {
        **TEMPERATURE,
        "EPSILON": ("Softness eps of the Sinkhorn codes.", above(0)),
        "ITERATIONS": ("Iterations of Sinkhorn-Knopp.", at_least(1)),
    },
)
class SwAVPrototypes(PrototypeLoss):
    """Each view predicts the prototype code of the other view; a labelled image's code is its class.

        1/2 mean_i [ -sum_k q'_ik log p_ik  -  sum_k q_ik log p'_ik ],   p = softmax(z C^T / T)

    q: Sinkhorn-Knopp codes exp(z C^T / eps), balanced over the prototypes of the global batch, without gradient; rows
    of labelled images are one-hot. Source: Caron et al. 2020 (SwAV, arXiv 2006.09882), equations 2-5, with CLOP's fixed
    prototypes; the labelled rows are ours. Use it to ask what pseudo-labels add to CLOP.

    Args:
        prototypes: (K, d).
        temperature: T > 0.
        epsilon: eps > 0 of the codes; the smaller, the harder.
        iterations: of Sinkhorn-Knopp, at least 1.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self, prototypes: Tensor, temperature: float = 0.1, epsilon: float = 0.05, iterations: int = 3
    ) -> None:
        super().__init__(prototypes, temperature)
        self.epsilon = check_positive("epsilon", epsilon)
        if iterations < 1:
            raise ValueError(f"iterations={iterations}: must be at least 1")
        self.iterations = iterations

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """One term, `swav_prototypes`."""
        logits = self.logits(batch.unit)
        first, second = logits.log_softmax(1).chunk(2)
        codes = [self._codes(half, batch.labels) for half in logits.detach().chunk(2)]
        value = -((codes[0] * second).sum(1) + (codes[1] * first).sum(1)).mean() / 2
        return {"swav_prototypes": value}

    def _codes(self, logits: Tensor, labels: Tensor) -> Tensor:
        codes = sinkhorn(logits * (self.temperature / self.epsilon), self.iterations)
        labelled = labels >= 0
        own = torch.nn.functional.one_hot(labels.clamp(min=0), codes.shape[1]).to(codes)
        return torch.where(labelled[:, None], own, codes)


def sinkhorn(scores: Tensor, iterations: int) -> Tensor:
    """(N, K) scores -> (N, K) codes whose rows sum to 1 and whose columns nearly sum to N / K."""
    codes = (scores - scores.max()).exp()
    for _ in range(iterations):
        codes = codes / codes.sum(0, keepdim=True)
        codes = codes / codes.sum(1, keepdim=True)
    return codes
