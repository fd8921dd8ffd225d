"""The scale of an fp16 step's loss, which keeps small gradients from vanishing (Micikevicius et al. 2018, section 3.2).

torch's GradScaler would wait for the device a second time in every step; here the step's one look at what is finite
decides.
"""

from __future__ import annotations

import torch
from torch import Tensor

_START, _LEAST = 2.0**16, 1.0
_GROWS_AFTER = 2000  # steps in a row


class LossScale:
    """Halved by a step whose gradients overflow, which is then left out, and doubled after 2,000 that do not.

    Args:
        enabled: without it the scale is 1 for ever, and nothing is multiplied.

    Attributes:
        value: of the next step.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.value = _START if enabled else 1.0
        self._good = 0

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to take the gradient of."""
        return loss * self.value if self.enabled else loss

    @torch.no_grad()
    def unscale(self, gradients: list[Tensor]) -> None:
        """Take the scale out of the gradients, in place."""
        if self.enabled and gradients:
            torch._foreach_mul_(gradients, 1 / self.value)

    def lowered(self) -> bool:
        """After gradients that overflow: halve; False where the scale is not to blame, being 1 already."""
        if self.value <= _LEAST:
            return False
        self.value, self._good = self.value / 2, 0
        return True

    def step_taken(self) -> None:
        """After a step whose gradients were finite."""
        if not self.enabled:
            return
        self._good += 1
        if self._good == _GROWS_AFTER:
            self.value, self._good = self.value * 2, 0

    def state_dict(self) -> dict[str, float]:
        """For a checkpoint."""
        return {"value": self.value, "good": float(self._good)}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore what `state_dict` gave; a run whose checkpoint has none begins anew."""
        if self.enabled and state:
            self.value, self._good = state["value"], int(state["good"])
