"""Losses of prototype scores against other implementations, plain transcriptions and closed forms."""

from __future__ import annotations

import pytest
import torch
from pytorch_metric_learning import losses as metric_losses
from torch import Tensor

from clop_det.losses import Loss, orthonormal_prototypes, random_unit
from clop_det.losses.prototype_scores import NONL, NTCE, DotRegression, PrototypeSoftmax
from tests.losses.helpers import assert_same, some_labels, two_views, value_and_gradient

N, D, K = 12, 16, 6
LABELS = some_labels(N, K)
PROTOTYPES = torch.nn.functional.normalize(random_unit(K, D, seed=3).double(), dim=1)
TEMPERATURES = (1.0, 0.1, 0.05)
T = 0.1


def labelled(embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Unit rows and labels of the labelled views."""
    labels = LABELS.repeat(2)
    return torch.nn.functional.normalize(embeddings, dim=1)[labels >= 0], labels[labels >= 0]


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_softmax_equals_a_normalised_softmax_and_proxy_nca(temperature: float) -> None:
    softmax = metric_losses.NormalizedSoftmaxLoss(K, D, temperature=temperature).double()
    softmax.W.data = PROTOTYPES.t().clone()
    proxies = metric_losses.ProxyNCALoss(K, D, softmax_scale=1 / (2 * temperature)).double()
    proxies.proxies.data = PROTOTYPES.clone()
    ours = PrototypeSoftmax(PROTOTYPES, temperature)
    assert_same(lambda e: ours(e, LABELS), lambda e: softmax(*labelled(e)), two_views(N, D), scale=1 / temperature)
    assert_same(lambda e: ours(e, LABELS), lambda e: proxies(*labelled(e)), two_views(N, D), scale=1 / temperature)


def plain_dot_regression(z: Tensor, y: Tensor) -> Tensor:
    return torch.stack([(row @ PROTOTYPES[k] - 1) ** 2 / 2 for row, k in zip(z, y, strict=True)]).mean()


def plain_ntce(z: Tensor, y: Tensor, others_only: bool = False) -> Tensor:
    terms = []
    for row, k in zip(z, y, strict=True):
        rows = z[y != k] if others_only else z
        if len(rows):
            terms.append(-torch.log((PROTOTYPES[k] @ row / T).exp() / (rows @ PROTOTYPES[k] / T).exp().sum()))
    return torch.stack(terms).sum() / len(z)


@pytest.mark.parametrize(
    ("loss", "plain"),
    [
        (DotRegression(PROTOTYPES), plain_dot_regression),
        (NTCE(PROTOTYPES, T), plain_ntce),
        (NONL(PROTOTYPES, T), lambda z, y: plain_ntce(z, y, others_only=True)),
    ],
)
def test_the_formula_written_out(loss: Loss, plain: object) -> None:
    assert_same(lambda e: loss(e, LABELS), lambda e: plain(*labelled(e)), two_views(N, D), scale=1 / T)  # type: ignore[operator]


@pytest.mark.parametrize(
    "loss", [PrototypeSoftmax(PROTOTYPES, T), DotRegression(PROTOTYPES), NTCE(PROTOTYPES, T), NONL(PROTOTYPES, T)]
)
def test_without_a_label_it_is_exactly_zero_with_zero_gradients(loss: Loss) -> None:
    value, gradient = value_and_gradient(lambda e: loss(e, torch.full((N,), -1)), two_views(N, D))
    assert float(value) == 0
    assert not bool(gradient.any())


def test_nonl_leaves_out_a_view_that_meets_no_other_class() -> None:
    labels = torch.full((N,), 2)
    value, gradient = value_and_gradient(lambda e: NONL(PROTOTYPES, T)(e, labels), two_views(N, D))
    assert float(value) == 0
    assert not bool(gradient.any())


def test_closed_forms_at_the_prototypes() -> None:
    prototypes = orthonormal_prototypes(K, D).double()
    labels, at_home = torch.arange(K), prototypes.repeat(2, 1)
    e = torch.e
    one, rest = e ** (1 / T), float(K - 1)
    expected = {
        PrototypeSoftmax(prototypes, T): torch.log(torch.tensor((one + rest) / one)),
        DotRegression(prototypes): torch.tensor(0.0),
        # Two views of each class: two terms e^(1/T) and 2 (K - 1) terms e^0.
        NTCE(prototypes, T): torch.log(torch.tensor((2 * one + 2 * rest) / one)),
        NONL(prototypes, T): torch.log(torch.tensor(2 * rest / one)),
    }
    for loss, value in expected.items():
        torch.testing.assert_close(loss(at_home, labels), value.double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PrototypeSoftmax(PROTOTYPES, 0.0), "temperature=0.0: must be"),
        (lambda: NTCE(torch.zeros(K, D)), "prototypes: holds NaN, infinite or zero rows"),
        (lambda: DotRegression(torch.randn(K, 2, D)), r"prototypes: shape \(6, 2, 16\); must be \(K, d\)"),
        (lambda: NONL(PROTOTYPES, T)(two_views(3, 8), torch.tensor([0, 1, 2])), "embeddings: 8 dimensions"),
    ],
)
def test_bad_input(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
