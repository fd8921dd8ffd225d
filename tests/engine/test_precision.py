"""What SOLVER.PRECISION auto chooses, and what it says of it."""

from __future__ import annotations

import logging

import pytest
import torch

from clop_det.engine import precision
from clop_det.engine.config import LEAST_PIXELS
from clop_det.engine.precision import use_bf16

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("setting", "instructions", "pixels", "expected"),
    [
        ("auto", True, None, True),
        ("auto", True, LEAST_PIXELS, True),
        ("auto", True, LEAST_PIXELS - 1, False),
        ("auto", False, LEAST_PIXELS, False),
        ("bf16", True, 1, True),
        ("bf16", False, LEAST_PIXELS, True),
        ("fp32", True, LEAST_PIXELS, False),
    ],
)
def test_bf16_is_chosen_where_the_processor_has_it_and_a_step_is_large_enough(
    setting: str,
    instructions: bool,
    pixels: int | None,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(precision, "computes_in_bf16", lambda device: instructions)
    with caplog.at_level(logging.INFO):
        assert use_bf16(setting, CPU, pixels) is expected
    (said,) = caplog.messages
    assert said.startswith(f"precision: {'bf16' if expected else 'fp32'} (SOLVER.PRECISION {setting}")
    assert ("98,303 pixels at once" in said) == (setting == "auto" and pixels == LEAST_PIXELS - 1)


def test_a_gpu_takes_bf16_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_in_bf16", lambda device: device.type == "cuda")
    assert use_bf16("auto", torch.device("cuda"), 1)
