"""Values that can be written down: what the losses of the baselines are at embeddings of a known shape."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from clop_det.losses import Loss
from clop_det.losses.fixmatch_prototypes import FixMatchPrototypes
from clop_det.losses.lejepa import LeJEPA
from clop_det.losses.mcr2 import MCR2
from clop_det.losses.mmcr import MMCR
from clop_det.losses.paws import PAWS
from clop_det.losses.simsiam import SimSiam
from clop_det.losses.suncet import SuNCEt
from clop_det.losses.swav_prototypes import SwAVPrototypes
from clop_det.losses.wmse import WMSE

K, D, M = 3, 8, 4  # classes, dimensions, images of each class
N = K * M
LABELS = torch.arange(K).repeat(M)
NONE = torch.full((N,), -1)
PROTOTYPES = torch.eye(K, D, dtype=torch.float64)
AT_HOME = PROTOTYPES[LABELS].repeat(2, 1)  # every view at the orthonormal prototype of its class
ONE = torch.ones(2 * N, D, dtype=torch.float64)  # all views at one point


def _quadrature(values: list[float]) -> float:
    """The trapezoidal rule on [-3, 3] of an even function at 17 knots of its right half."""
    return 3 / 16 * (2 * sum(values) - values[0] - values[-1])


def _sigreg_at_zero() -> float:
    window = [math.exp(-((3 * k / 16) ** 2) / 2) for k in range(17)]
    return N * _quadrature([(1 - w) ** 2 * w for w in window])


def _home_softmax(temperature: float) -> float:
    return math.log(math.exp(1 / temperature) + K - 1) - 1 / temperature


def _rate(epsilon: float, share: float, rank: int) -> float:
    """Coding rate of rows spread evenly over `rank` orthonormal directions."""
    return rank / 2 * math.log(1 + D * share / epsilon)


@pytest.mark.parametrize(
    ("loss", "embeddings", "labels", "expected"),
    [
        # N equal means of length 1 have one singular value, sqrt(N); M of each of K directions have K of sqrt(M).
        (MMCR(), ONE, NONE, -math.sqrt(N)),
        (MMCR(), AT_HOME, NONE, -K * math.sqrt(M)),
        (MCR2(0.5), AT_HOME, LABELS, _rate(0.5, 1, 1) - _rate(0.5, 1 / K, K)),
        (MCR2(0.5), ONE, LABELS, 0.0),
        (WMSE(D), torch.randn(N, D, dtype=torch.float64).repeat(2, 1), NONE, 0.0),
        (LeJEPA(regularisation=1.0), 0 * ONE, NONE, _sigreg_at_zero()),
        (LeJEPA(regularisation=0.0), torch.cat([ONE[:N], -ONE[:N]]), NONE, 1.0),
        # Sharp and certain: no cross-entropy is left, and K classes are used alike.
        (PAWS(K, temperature=0.005), AT_HOME, LABELS, -math.log(K)),
        (SuNCEt(0.1), AT_HOME, LABELS, math.log(1 + 2 * (K - 1) * M / (2 * M - 1) * math.exp(-10))),
        (FixMatchPrototypes(PROTOTYPES, 0.5, threshold=0.0), AT_HOME, LABELS, _home_softmax(0.5)),
        (FixMatchPrototypes(PROTOTYPES, 0.5, threshold=0.0), AT_HOME, NONE, _home_softmax(0.5)),
        (FixMatchPrototypes(PROTOTYPES, 0.5, threshold=1.0), AT_HOME, NONE, 0.0),
        (SwAVPrototypes(PROTOTYPES, 0.5), AT_HOME, LABELS, _home_softmax(0.5)),
        # Views between all prototypes: whatever the codes are, each choice costs the same.
        (SwAVPrototypes(PROTOTYPES, 0.5), PROTOTYPES.sum(0).repeat(2 * N, 1), NONE, math.log(K)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Loss) else "",
)
def test_value(loss: Loss, embeddings: Tensor, labels: Tensor, expected: float) -> None:
    assert float(loss(embeddings, labels)) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_simsiam_of_a_predictor_that_answers_one_direction() -> None:
    """Rows that BatchNorm makes 0 leave the bias of the last layer: -cos(bias, z)."""
    loss = SimSiam(D, 5).double()
    for angle in (0.0, 1.0, math.pi):
        with torch.no_grad():
            loss.output.bias[:2] = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
            loss.output.bias[2:] = 0
        value = loss(torch.eye(1, D, dtype=torch.float64).repeat(2 * N, 1), NONE)
        assert float(value) == pytest.approx(-math.cos(angle), rel=1e-10)
