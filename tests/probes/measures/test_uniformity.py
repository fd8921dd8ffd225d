from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from clop_det.probes.measures.uniformity import alignment, uniformity


def test_alignment_closed_forms() -> None:
    x = torch.eye(3, 5, dtype=torch.float64)
    assert alignment(x, 7 * x) == 0
    assert alignment(x, -x) == pytest.approx(4)
    assert alignment(x, -x, alpha=1) == pytest.approx(2)
    assert alignment(x, x.roll(1, dims=0)) == pytest.approx(2)
    # One pair opposite, two equal.
    assert alignment(x, x * torch.tensor([[-1.0], [1.0], [1.0]], dtype=torch.float64), alpha=3) == pytest.approx(8 / 3)


def test_uniformity_closed_forms() -> None:
    assert uniformity(torch.ones(6, 4)) == pytest.approx(0, abs=1e-6)
    assert uniformity(torch.eye(8, dtype=torch.float64)) == pytest.approx(-4)  # every distance squared is 2
    assert uniformity(torch.eye(8, dtype=torch.float64), t=0.5) == pytest.approx(-1)
    pair = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert uniformity(pair) == pytest.approx(-8)


def test_uniformity_is_the_mean_over_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(50, 6, dtype=torch.float64)
    distances = torch.pdist(F.normalize(x, dim=1)).square()
    expected = float((-3 * distances).exp().mean().log())
    assert uniformity(x, t=3) == pytest.approx(expected, rel=1e-10)
    monkeypatch.setattr("clop_det.probes.measures.uniformity._CHUNK_ELEMENTS", 350)  # 7 rows at a time
    assert uniformity(x, t=3) == pytest.approx(expected, rel=1e-10)


def test_invariances() -> None:
    x, y = torch.randn(40, 5, dtype=torch.float64), torch.randn(40, 5, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    order = torch.randperm(40)
    assert alignment(x[order] @ rotation, 2 * y[order] @ rotation) == pytest.approx(alignment(y, x), rel=1e-10)
    assert uniformity(5 * x[order] @ rotation) == pytest.approx(uniformity(x), rel=1e-10)


def test_bad_input_is_named() -> None:
    x = torch.ones(3, 2)
    with pytest.raises(ValueError, match=r"first and second must have one shape, but have \(3, 2\), \(2, 2\)"):
        alignment(x, x[:2])
    with pytest.raises(ValueError, match="alpha must be > 0, but is 0"):
        alignment(x, x, alpha=0)
    with pytest.raises(ValueError, match="second must be finite"):
        alignment(x, x * math.nan)
    with pytest.raises(ValueError, match=r"embeddings must be .* N >= 2 .* \(1, 2\)"):
        uniformity(x[:1])
    with pytest.raises(ValueError, match="t must be > 0"):
        uniformity(x, t=-1)
