"""PAWS: views predict each other's class distribution by soft neighbours among the labelled views of the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from clop_det.keys import above, at_least
from clop_det.losses.base import Loss, check_positive, check_weight
from clop_det.losses.batch import Batch
from clop_det.losses.registry import register_loss

_SMALLEST_TARGET = 1e-4  # smaller entries of a sharpened target count as 0, as in the authors' code


@register_loss(
    "paws",
    {
        "TEMPERATURE": ("Temperature tau of the soft neighbours.", above(0)),
        "SHARPENING": ("Temperature T of the sharpened targets.", above(0)),
        "WEIGHT": ("Weight of the mean entropy, which keeps the classes in use.", at_least(0)),
    },
)
class PAWS(Loss):
    """Predicting view assignments with support samples, the support taken from the batch.

        p_i = softmax(z_i S^T / tau) onehot(y_S)
        mean_i H(sharpen(p of the other view), p_i)  -  w * H(mean_i sharpen(p_i)),   sharpen(p)_k ~ p_k^(1/T)

    S: the labelled views of the global batch but those of the image itself (ours: in the paper the support is drawn
    apart). Targets are without gradient. With labelled views of fewer than two images exactly 0. Memory is O(2N |S|).
    Source: Assran et al. 2021 (PAWS, arXiv 2104.13963), equations 1-3.

    Args:
        num_classes: K.
        temperature: tau > 0 of the soft neighbours.
        sharpening: T > 0 of the targets.
        weight: w >= 0 of the mean entropy.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self, num_classes: int, temperature: float = 0.1, sharpening: float = 0.25, weight: float = 1.0
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.temperature = check_positive("temperature", temperature)
        self.sharpening = check_positive("sharpening", sharpening)
        self.weight = check_weight("weight", weight)

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        """Two terms: `paws_consistency`, `paws_mean_entropy`."""
        labels = batch.view_labels
        support = (labels >= 0).nonzero()[:, 0]
        if int((batch.labels >= 0).sum()) < 2:
            nothing = (0 * batch.unit).sum()
            return {"paws_consistency": nothing, "paws_mean_entropy": nothing}
        probabilities = self._soft_neighbours(batch, support, labels[support])
        sharp = self._sharpened(probabilities)
        target = sharp.detach().roll(batch.num_images, 0)
        target = target.masked_fill(target < _SMALLEST_TARGET, 0)
        mean = sharp.mean(0).clamp(min=torch.finfo(sharp.dtype).tiny)  # the logarithm of 0 has no gradient
        return {
            "paws_consistency": -torch.special.xlogy(target, probabilities).sum(1).mean(),
            "paws_mean_entropy": self.weight * torch.special.xlogy(mean, mean).sum(),
        }

    def _soft_neighbours(self, batch: Batch, support: Tensor, labels: Tensor) -> Tensor:
        """(2N, K) class distribution of every view."""
        logits = batch.unit @ batch.unit[support].t() / self.temperature
        image = torch.arange(batch.num_images, device=support.device).repeat(2)
        own = image[:, None] == image[support]
        assert self.num_classes is not None
        one_hot = torch.nn.functional.one_hot(labels, self.num_classes).to(logits)
        found = logits.masked_fill(own, -torch.inf).softmax(1) @ one_hot
        # A class that no supporter has is exactly 0 there, where logarithm and power have no gradient.
        return found.clamp(min=torch.finfo(found.dtype).tiny)

    def _sharpened(self, probabilities: Tensor) -> Tensor:
        powered = probabilities ** (1 / self.sharpening)
        return powered / powered.sum(1, keepdim=True)
