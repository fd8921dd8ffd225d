from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from clop_det.probes.measures.spectrum import (
    alpha_req,
    effective_rank,
    effective_ranks_of,
    gram_singular_values,
    nesum,
    rankme,
    rankme_of,
    singular_values,
)


def by_formula(values: list[float], epsilon: float) -> float:
    p = [v / sum(values) + epsilon for v in values]
    return math.exp(-sum(q * math.log(q) for q in p if q > 0))


def with_singular_values(values: list[float], rows: int, columns: int) -> torch.Tensor:
    u = torch.linalg.qr(torch.randn(rows, len(values), dtype=torch.float64))[0]
    v = torch.linalg.qr(torch.randn(columns, len(values), dtype=torch.float64))[0]
    return u @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ v.T


def test_singular_values_are_those_put_in() -> None:
    torch.testing.assert_close(
        singular_values(with_singular_values([5.0, 2.0, 0.5], 40, 3)),
        torch.tensor([5.0, 2.0, 0.5], dtype=torch.float64),
    )


def test_measures_follow_their_formulas() -> None:
    values = [5.0, 2.0, 0.5, 1e-3]
    matrix = with_singular_values(values, 60, 4)
    assert rankme(matrix) == pytest.approx(by_formula(values, 1e-7), rel=1e-12)
    assert effective_rank(matrix) == pytest.approx(by_formula(values, 0.0), rel=1e-12)
    rows = matrix - matrix.mean(dim=0)
    eigenvalues = torch.linalg.eigvalsh(rows.T @ rows / len(rows))
    assert nesum(matrix) == pytest.approx(float(eigenvalues.sum() / eigenvalues.max()), rel=1e-9)


@pytest.mark.parametrize("k", [1, 2, 10, 64])
def test_orthonormal_rows_have_rank_k(k: int) -> None:
    rows = torch.linalg.qr(torch.randn(100, k, dtype=torch.float64))[0].T
    assert rankme(rows) == pytest.approx(by_formula([1.0] * k, 1e-7), rel=1e-12)
    assert rankme(rows) == pytest.approx(k, rel=1e-4)
    assert effective_rank(rows) == pytest.approx(k, rel=1e-12)
    # Ten images at each of K orthonormal prototypes: K dimensions, K - 1 once centred.
    assert effective_rank(rows.repeat(10, 1)) == pytest.approx(k, rel=1e-12)
    if k > 1:
        assert effective_rank(rows.repeat(10, 1), centre=True) == pytest.approx(k - 1, rel=1e-9)
        assert nesum(rows.repeat(10, 1)) == pytest.approx(k - 1, rel=1e-9)


def test_rank_one_matrices() -> None:
    row = torch.randn(1, 32, dtype=torch.float64)
    line = torch.randn(50, 1, dtype=torch.float64) * row
    assert effective_rank(line) == pytest.approx(1, abs=1e-9)
    # The epsilon gives each of the 31 empty directions its share: -1e-7 ln 1e-7.
    assert rankme(line) == pytest.approx(math.exp(31 * 1e-7 * 7 * math.log(10)), abs=1e-6)
    assert nesum(line) == pytest.approx(1, abs=1e-9)
    equal = row.repeat(50, 1)
    assert effective_rank(equal, centre=True) == 0
    assert nesum(equal) == 0


def test_zeros_have_rank_zero() -> None:
    zeros = torch.zeros(5, 3)
    assert rankme(zeros) == effective_rank(zeros) == nesum(zeros) == 0


def test_invariances() -> None:
    x = torch.randn(80, 12, dtype=torch.float64) * torch.logspace(0, -3, 12, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))[0]
    shift = torch.randn(12, dtype=torch.float64)
    for measure in (rankme, effective_rank, nesum):
        assert measure(-3 * x[torch.randperm(80)] @ rotation) == pytest.approx(measure(x), rel=1e-9)
    assert nesum(x + shift) == pytest.approx(nesum(x), rel=1e-9)
    # Uncentred on purpose: a shared direction changes RankMe.
    assert abs(rankme(x + shift) - rankme(x)) > 0.2


def test_half_precision_is_widened() -> None:
    x = torch.randn(64, 8).bfloat16()
    assert rankme(x) == pytest.approx(rankme(x.double()), rel=1e-12)


@pytest.mark.parametrize("bad", [torch.ones(4), torch.ones(0, 3), torch.ones(2, 2).long(), torch.tensor([[math.nan]])])
def test_bad_input_is_named(bad: torch.Tensor) -> None:
    for measure in (rankme, effective_rank, nesum, singular_values):
        with pytest.raises(ValueError, match="features must be"):
            measure(bad)


@pytest.mark.parametrize("shape", [(300, 20), (20, 300), (64, 64)])
def test_eigenvalues_of_the_gram_matrix_are_the_squares(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = gram_singular_values(matrix)
    torch.testing.assert_close(found, singular_values(matrix), rtol=1e-9, atol=1e-9)
    assert rankme_of(found) == pytest.approx(rankme(matrix), rel=1e-10)


def test_gram_spectra_of_collapsed_matrices_have_no_noise_and_are_taken_in_batches() -> None:
    one = torch.linspace(1, 2, 30, dtype=torch.float64).outer(torch.linspace(-1, 1, 8, dtype=torch.float64))
    batch = torch.stack([one, torch.zeros_like(one), with_singular_values([3.0, 3.0], 30, 8).double()])
    ranks = effective_ranks_of(gram_singular_values(batch))
    torch.testing.assert_close(ranks, torch.tensor([1.0, 0.0, 2.0], dtype=torch.float64), rtol=1e-9, atol=0)
    assert rankme_of(gram_singular_values(one)) == pytest.approx(rankme(one), rel=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_alpha_req_is_the_exponent_of_a_power_law(alpha: float) -> None:
    values = [(i + 1.0) ** (-alpha / 2) for i in range(120)]
    u = torch.linalg.qr(torch.randn(300, 121, dtype=torch.float64).index_fill(1, torch.tensor([0]), 1.0))[0][:, 1:]
    matrix = u @ torch.diag(torch.tensor(values, dtype=torch.float64))  # columns without a mean
    assert alpha_req(matrix) == pytest.approx(alpha, rel=1e-9)


def test_alpha_req_weights_each_eigenvalue_by_its_place() -> None:
    features = torch.randn(150, 80, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(features.numpy().T)))[::-1][9:80]
    index = np.arange(10, 81)
    slope = np.polyfit(-np.log(index), np.log(eigenvalues), 1, w=index**-0.5)[0]  # polyfit squares its weights
    assert alpha_req(features) == pytest.approx(slope, rel=1e-9)


def test_alpha_req_of_too_few_dimensions_is_undefined() -> None:
    assert math.isnan(alpha_req(torch.randn(50, 8)))
