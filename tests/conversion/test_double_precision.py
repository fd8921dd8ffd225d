"""The second comparison of a proof, in double precision: it forgives rounding and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from clop_det.conversion.proof import Input, ParityError, check_errors, compare, proof_images

PLAIN = Input("RGB", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Amplifier(nn.Module):
    """A sum that nearly cancels, over a constant; `order` changes the rounding alone."""

    def __init__(self, order: int, factor: float = 1.0, overflow: bool = False) -> None:
        super().__init__()
        self.order, self.overflow = order, overflow
        self.weight = nn.Parameter(torch.tensor(factor))

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        large = 3e4 * images
        found = (images + large) - large if self.order else images + (large - large)
        maps = {"stage1": self.weight * found}
        return {**maps, "stage2": images * 1e38 * 10 / 1e38} if self.overflow else maps


def run(network: Amplifier) -> tuple[nn.Module, object, Input, float]:
    return network, network.maps, PLAIN, 1.0


def compared(actual: Amplifier, expected: Amplifier) -> tuple[str, dict[str, float]]:
    name, errors = compare("FPN", proof_images((8, 8)), run(actual), run(expected))  # type: ignore[arg-type]
    check_errors(name, errors, "")
    return name, errors


def test_rounding_is_gone_in_double_precision() -> None:
    actual = Amplifier(1)
    name, errors = compared(actual, Amplifier(0))
    assert name == "FPN in float64"
    assert errors["stage1"] < 1e-9
    assert actual.weight.dtype == torch.float32


def test_a_wrong_weight_is_found_behind_the_rounding() -> None:
    with pytest.raises(ParityError, match="FPN in float64"):
        compared(Amplifier(1, 1.0001), Amplifier(0))


def test_what_overflows_in_the_training_precision_is_not_proved_in_another() -> None:
    with pytest.raises(ParityError, match="stage2 nan"):
        compared(Amplifier(1, overflow=True), Amplifier(0, overflow=True))
