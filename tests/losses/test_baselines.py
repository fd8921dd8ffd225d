"""DirectCLR, LeJEPA, MMCR, MCR2, W-MSE and SimSiam against lightly and their formulas written out."""

from __future__ import annotations

import lightly.loss
import pytest
import torch
from lightly.loss.lejepa_loss import SIGReg, lejepa_invariance_loss
from torch import Tensor

from clop_det.losses import InfoNCE, build_loss
from clop_det.losses.batch import NonFiniteError
from clop_det.losses.direct_clr import DirectCLR
from clop_det.losses.lejepa import LeJEPA, sigreg
from clop_det.losses.mcr2 import MCR2
from clop_det.losses.mmcr import MMCR
from clop_det.losses.simsiam import SimSiam
from clop_det.losses.wmse import WMSE
from tests.losses.helpers import assert_same, some_labels, two_views, value_and_gradient

N, D, K = 24, 8, 3
LABELS = some_labels(N, K)
NONE = torch.full((N,), -1)


def test_direct_clr_is_lightly_s_and_info_nce_of_a_part() -> None:
    oracle = lightly.loss.DirectCLRLoss(loss_dim=3, temperature=0.1)
    assert_same(lambda e: DirectCLR(3, 0.1)(e, NONE), lambda e: oracle(*e.chunk(2)), two_views(N, D), scale=10)
    assert_same(lambda e: DirectCLR(D, 0.1)(e, NONE), lambda e: InfoNCE(0.1)(e, NONE), two_views(N, D))


class TestLeJEPA:
    def test_sigreg_is_lightly_s(self, monkeypatch: pytest.MonkeyPatch) -> None:
        directions = torch.nn.functional.normalize(torch.randn(D, 32, dtype=torch.float64), dim=0)
        oracle = SIGReg(num_vectors=32).double()
        monkeypatch.setattr(oracle, "_generate_unit_vectors", lambda *a, **k: directions)
        # Its knots are exact in float32; windows and weights are not.
        window = (-oracle.t.square() / 2).exp()
        oracle.phi, oracle.weights = window, window * torch.tensor([3 / 16, *[3 / 8] * 15, 3 / 16]).double()

        def ours(e: Tensor) -> Tensor:
            first, second = e.chunk(2)
            return (sigreg(first, directions) + sigreg(second, directions)) / 2

        assert_same(ours, lambda e: oracle(torch.stack(list(e.chunk(2)))), two_views(N, D), scale=10)

    def test_invariance_is_lightly_s(self) -> None:
        loss = LeJEPA(regularisation=0.0)

        def theirs(e: Tensor) -> Tensor:
            both = torch.stack(list(e.chunk(2)))
            value: Tensor = lejepa_invariance_loss(all_proj=both, global_proj=both)
            return value

        assert_same(lambda e: loss(e, NONE), theirs, two_views(N, D))

    def test_gaussian_rows_cost_least(self) -> None:
        directions = torch.nn.functional.normalize(torch.randn(D, 64, dtype=torch.float64), dim=0)
        rows = torch.randn(4000, D, dtype=torch.float64)
        at_home = float(sigreg(rows, directions))
        for other in (rows * 2, rows + 1, rows.abs(), rows[:, :1].repeat(1, D)):
            assert float(sigreg(other, directions)) > 10 * at_home

    def test_every_step_draws_anew_and_a_resumed_run_draws_the_same(self) -> None:
        loss, embeddings = LeJEPA(slices=4), two_views(N, D)
        values = []
        for _ in range(3):
            assert float(loss(embeddings, NONE)) == float(loss(embeddings, NONE))
            values.append(float(loss(embeddings, NONE)))
            loss.after_step()
        assert len(set(values)) == 3
        resumed = LeJEPA(slices=4)
        for _ in range(2):
            resumed.after_step()
        again = LeJEPA(slices=4)
        again.load_state_dict(resumed.state_dict())
        assert float(again(embeddings, NONE)) == values[2]

    def test_clop_passes_steps_on_to_its_base(self) -> None:
        loss = build_loss("clop", {"clop": {"BASE": "lejepa"}}, K, D)
        loss.after_step()
        assert int(loss.base.step) == 1


def test_mmcr_is_lightly_s() -> None:
    oracle = lightly.loss.MMCRLoss(lmda=0.0)

    def theirs(e: Tensor) -> Tensor:
        first, second = torch.nn.functional.normalize(e, dim=1).chunk(2)
        value: Tensor = oracle(first[:, None], second[:, None])
        return value

    assert_same(lambda e: MMCR()(e, NONE), theirs, two_views(N, D), scale=10)


class TestMCR2:
    def test_written_out(self) -> None:
        epsilon = 0.3

        def rate(rows: Tensor) -> Tensor:
            eye = torch.eye(D, dtype=torch.float64)
            value: Tensor = torch.logdet(eye + D / (len(rows) * epsilon) * rows.t() @ rows) / 2
            return value

        def plain(e: Tensor) -> Tensor:
            z, labels = torch.nn.functional.normalize(e, dim=1), LABELS.repeat(2)
            known = int((labels >= 0).sum())
            compression = sum(int((labels == k).sum()) / known * rate(z[labels == k]) for k in range(K))
            return compression - rate(z)

        assert_same(lambda e: MCR2(epsilon)(e, LABELS), plain, two_views(N, D), scale=10)

    def test_orthogonal_classes_are_better_than_one_direction(self) -> None:
        labels = torch.arange(N) % K
        apart = torch.eye(D, dtype=torch.float64)[labels].repeat(2, 1)
        together = torch.eye(D, dtype=torch.float64)[torch.zeros(2 * N, dtype=torch.int64)]
        assert float(MCR2()(apart, labels)) < float(MCR2()(together, labels)) - 0.1


class TestWMSE:
    def test_it_is_lightly_s(self) -> None:
        oracle = lightly.loss.WMSELoss(embedding_dim=D, w_size=N, eps=0.0, track_running_stats=False)
        loss = WMSE(D, epsilon=0.0)

        def theirs(e: Tensor) -> Tensor:
            default = torch.get_default_dtype()
            torch.set_default_dtype(torch.float64)
            try:
                value: Tensor = oracle(e)
            finally:
                torch.set_default_dtype(default)
            return value

        ours = value_and_gradient(lambda e: loss(e, NONE), two_views(N, D))
        expected = value_and_gradient(theirs, two_views(N, D))
        for one, other in zip(ours, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)

    def test_the_scale_and_the_mean_of_a_dimension_change_nothing(self) -> None:
        embeddings, loss = two_views(N, D), WMSE(D, epsilon=0.0)
        moved = embeddings * (0.1 + torch.rand(D, dtype=torch.float64)) + torch.randn(D, dtype=torch.float64)
        torch.testing.assert_close(loss(moved, NONE), loss(embeddings, NONE), rtol=1e-9, atol=1e-9)

    def test_a_lost_dimension_is_named(self) -> None:
        embeddings = two_views(N, D)
        embeddings[:, 2] = 0
        with pytest.raises(NonFiniteError, match="span fewer than their 8 dimensions"):
            WMSE(D, epsilon=0.0)(embeddings, NONE)
        assert bool(torch.isfinite(WMSE(D)(embeddings, NONE)))


def test_simsiam_written_out_and_lightly_s_cosine() -> None:
    torch.manual_seed(0)
    loss = SimSiam(D, 5).double()
    predictor = torch.nn.Sequential(
        torch.nn.Linear(D, 5, bias=False), torch.nn.BatchNorm1d(5), torch.nn.ReLU(), torch.nn.Linear(5, D)
    ).double()
    predictor[0].weight = loss.hidden.weight
    predictor[3].weight, predictor[3].bias = loss.output.weight, loss.output.bias
    cosine = lightly.loss.NegativeCosineSimilarity()

    def theirs(e: Tensor) -> Tensor:
        first, second = e.chunk(2)
        value: Tensor = (cosine(predictor(first), second.detach()) + cosine(predictor(second), first.detach())) / 2
        return value

    assert_same(lambda e: loss(e, NONE), theirs, two_views(N, D), scale=10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DirectCLR(0), "dimensions=0: must be at least 1"),
        (lambda: DirectCLR(9)(two_views(N, D), NONE), "dimensions=9: the embeddings have 8"),
        (lambda: LeJEPA(regularisation=1.5), "regularisation=1.5: must be"),
        (lambda: LeJEPA(slices=0), "slices=0: must be at least 1"),
        (lambda: MCR2(0.0), "epsilon=0.0: must be"),
        (lambda: WMSE(D, 1.0), "epsilon=1.0: must be"),
        (lambda: WMSE(D, 0.0)(two_views(4, D), NONE[:4]), "this loss is defined from 9 on"),
        (lambda: SimSiam(D, 0), "hidden_dim=0: must be at least 1"),
    ],
)
def test_bad_input(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
