"""What the row-block form promises beyond its value: memory, numerics, and honest refusals."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.plain_losses import plain_info_nce
from clop_det.losses import CLOP, InfoNCE, Loss, SupCon, orthonormal_prototypes
from tests.losses.helpers import every_loss, some_labels, two_views, value_and_gradient

PROTOTYPES = orthonormal_prototypes(4, 8)
LABELS = some_labels(12, 4)


def _losses(temperature: float) -> list[Loss]:
    return [InfoNCE(temperature), SupCon(temperature), CLOP(InfoNCE(temperature), PROTOTYPES)]


@pytest.mark.parametrize("temperature", [0.2, 0.01])
def test_double_backward_raises(temperature: float) -> None:
    embeddings = two_views(12, 8).requires_grad_()
    with pytest.raises(RuntimeError, match="no double backward"):
        torch.autograd.grad(InfoNCE(temperature)(embeddings, LABELS), embeddings, create_graph=True)


def test_the_gradient_scales_with_what_follows_and_survives_a_second_backward() -> None:
    embeddings = two_views(12, 8).requires_grad_()
    loss = InfoNCE(0.2)(embeddings, LABELS)
    (once,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
    (thrice,) = torch.autograd.grad(3 * loss, embeddings)
    torch.testing.assert_close(thrice, 3 * once)


@pytest.mark.parametrize("temperature", [0.2, 0.01])
def test_numerical_gradient(temperature: float) -> None:
    torch.manual_seed(0)
    embeddings = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
    for loss in (InfoNCE(temperature), SupCon(temperature)):
        assert torch.autograd.gradcheck(lambda e, loss=loss: loss(e, LABELS[:4]), (embeddings,))


def test_without_gradient_the_value_is_the_same_and_has_no_graph() -> None:
    embeddings = two_views(12, 8)
    for loss in _losses(0.2):
        expected, _ = value_and_gradient(lambda e, loss=loss: loss(e, LABELS), embeddings)
        with torch.no_grad():
            value = loss(embeddings.clone().requires_grad_(), LABELS)
        assert not value.requires_grad
        assert not loss(embeddings, LABELS).requires_grad
        assert value == expected


def test_no_gradient_is_computed_where_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    products: list[int] = []
    plain_product = torch.mm
    monkeypatch.setattr(torch, "mm", lambda *a, **k: (products.append(1), plain_product(*a, **k))[1])
    monkeypatch.setattr(torch.Tensor, "addmm_", lambda *a, **k: pytest.fail("gradient work without a gradient"))
    InfoNCE(0.2)(two_views(12, 8), LABELS)
    assert len(products) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.01, 1 / 70, 0.02])
def test_low_temperatures_stay_finite_at_the_extremes(temperature: float, dtype: torch.dtype) -> None:
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=dtype)  # the two views of one image, antipodal
    same = torch.tensor([[1.0, 0.0]], dtype=dtype).repeat(2, 1)
    far = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], dtype=dtype)
    for embeddings, expected in ((opposite, 0.0), (same, 0.0), (far, 1 / temperature + math.log(2))):
        for loss in (InfoNCE(temperature), SupCon(temperature)):
            labels = torch.full((len(embeddings) // 2,), -1)
            value, gradient = value_and_gradient(lambda e, loss=loss, labels=labels: loss(e, labels), embeddings)
            assert torch.isfinite(gradient).all()
            assert value.item() == pytest.approx(expected, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("temperature", [0.2, 0.01])
def test_a_row_of_zeros_is_finite(temperature: float) -> None:
    embeddings = two_views(12, 8, torch.float32)
    embeddings[3] = 0
    for loss in _losses(temperature):
        value, gradient = value_and_gradient(lambda e, loss=loss: loss(e, LABELS), embeddings)
        assert torch.isfinite(value)
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", sorted(every_loss(4, 8)))
def test_autocast_reaches_no_loss(name: str) -> None:
    loss = every_loss(4, 8)[name]
    embeddings = two_views(12, 8, torch.float32)
    value, gradient = value_and_gradient(lambda e: loss(e, LABELS), embeddings)
    leaf = embeddings.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        inside = loss(leaf, LABELS)
    inside.backward()
    assert inside == value
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, gradient)


def test_half_precision_embeddings_are_widened_first() -> None:
    half = two_views(12, 8, torch.bfloat16)
    value, gradient = value_and_gradient(lambda e: InfoNCE(0.1)(e, LABELS), half)
    expected, expected_gradient = value_and_gradient(lambda e: plain_info_nce(e.float(), 0.1), half)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient)


MEASURE = """
import sys, torch
from clop_det.losses import CLOP, InfoNCE, orthonormal_prototypes

def status(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(key)) / 1024

def step(images):
    embeddings = torch.randn(2 * images, 128, requires_grad=True)
    before = status("VmRSS")
    loss(embeddings, torch.arange(images) % 10).backward()
    return status("VmHWM") - before

loss = CLOP(InfoNCE(0.2), orthonormal_prototypes(10, 128))
step(64)  # loads what the first step loads
print(step(int(sys.argv[1])))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from /proc")
def test_peak_memory_stays_below_256_mib_at_8192_images() -> None:
    run = subprocess.run([sys.executable, "-c", MEASURE, "8192"], capture_output=True, text=True, timeout=250)
    assert run.returncode == 0, run.stderr
    extra = float(run.stdout)
    # The logits alone would be 1024 MiB; below 8 MiB the gradient itself would be missing: nothing was measured.
    assert 8 < extra < 256
