from __future__ import annotations

import math

import pytest
import torch

from clop_det.probes.measures.embeddings import embedding_figures, mean_norm


def test_mean_norm_closed_forms() -> None:
    assert mean_norm(torch.eye(5)) == pytest.approx(1 / math.sqrt(5))
    assert mean_norm(torch.tensor([[1.0, 2.0]] * 4)) == pytest.approx(1)
    assert mean_norm(torch.tensor([[1.0, 2.0], [-1.0, -2.0]])) == pytest.approx(0, abs=1e-12)
    # Two directions at an angle a: the mean is cos(a / 2) long.
    assert mean_norm(torch.tensor([[1.0, 0.0], [math.cos(1.0), math.sin(1.0)]])) == pytest.approx(math.cos(0.5))


def test_figures_of_collapsed_and_spread_embeddings() -> None:
    line = torch.linspace(1, 3, 20)[:, None] * torch.tensor([[2.0, 0.0, 1.5]])
    collapsed = embedding_figures(line)
    assert collapsed["embedding_mean_norm"] == pytest.approx(1)
    assert collapsed["embedding_rankme"] == pytest.approx(1, abs=1e-4)
    assert collapsed["embedding_length"] == pytest.approx(2 * 2.5)
    antipodal = embedding_figures(torch.cat([line, -line]))
    assert antipodal["embedding_mean_norm"] == pytest.approx(0, abs=1e-6)
    assert antipodal["embedding_rankme"] == pytest.approx(1, abs=1e-4)
    spread = embedding_figures(torch.cat([torch.eye(8), -torch.eye(8)]))
    assert spread["embedding_mean_norm"] == 0
    assert spread["embedding_rankme"] == pytest.approx(8, rel=1e-4)


def test_lengths_change_nothing_but_the_length() -> None:
    x = torch.randn(30, 6, dtype=torch.float64)
    scaled = embedding_figures(x * torch.rand(30, 1, dtype=torch.float64).add(0.1))
    for name in ("embedding_mean_norm", "embedding_rankme"):
        assert scaled[name] == pytest.approx(embedding_figures(x)[name], rel=1e-10)
    assert embedding_figures(3 * x)["embedding_length"] == pytest.approx(3 * embedding_figures(x)["embedding_length"])


def test_bad_embeddings_are_named() -> None:
    with pytest.raises(ValueError, match=r"embeddings must be finite, but 1 of 3 rows"):
        embedding_figures(torch.tensor([[1.0], [math.inf], [2.0]]))
    with pytest.raises(ValueError, match=r"embeddings must be a matrix"):
        mean_norm(torch.ones(3))
