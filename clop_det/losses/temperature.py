"""What the losses with a softmax over similarities share: a temperature."""

from __future__ import annotations

from clop_det.keys import above
from clop_det.losses.base import Loss, check_positive

TEMPERATURE = {"TEMPERATURE": ("Temperature T of the softmax over similarities.", above(0))}


class TemperatureLoss(Loss):
    """A mean over all views, in which cosines are divided by a temperature.

    Args:
        temperature: T > 0.

    Raises:
        ValueError: temperature not above 0.
    """

    def __init__(self, temperature: float = 0.2) -> None:
        super().__init__()
        self.temperature = check_positive("temperature", temperature)

    def critical_learning_rate(self, num_embeddings: int) -> float:
        """n T: with near-uniform attention a step multiplies the mean of n embeddings by 1 - 2 eta / (n T)."""
        return self.temperature * num_embeddings

    def extra_repr(self) -> str:
        """Settings for printing."""
        return f"temperature={self.temperature}"
