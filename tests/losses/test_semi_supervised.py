"""SwAV, FixMatch, SuNCEt, PAWS and TSC against other implementations and their formulas written out."""

from __future__ import annotations

import lightly.loss
import pytest
import torch
from pytorch_metric_learning import losses as metric_losses
from torch import Tensor

from clop_det.losses import InfoNCE, SupCon, random_unit
from clop_det.losses.fixmatch_prototypes import FixMatchPrototypes
from clop_det.losses.paws import PAWS
from clop_det.losses.suncet import SuNCEt
from clop_det.losses.swav_prototypes import SwAVPrototypes, sinkhorn
from clop_det.losses.tsc import TSC
from tests.losses.helpers import assert_same, small_blocks, some_labels, two_views, value_and_gradient

N, D, K = 12, 16, 6
LABELS = some_labels(N, K)
NONE = torch.full((N,), -1)
PROTOTYPES = torch.nn.functional.normalize(random_unit(K, D, seed=3).double(), dim=1)


def unit(embeddings: Tensor) -> Tensor:
    return torch.nn.functional.normalize(embeddings, dim=1)


class TestSwAV:
    def test_without_labels_it_is_lightly_s(self) -> None:
        oracle = lightly.loss.SwaVLoss(temperature=0.1, sinkhorn_epsilon=0.05, sinkhorn_iterations=3)

        def theirs(e: Tensor) -> Tensor:
            first, second = (unit(e) @ PROTOTYPES.t()).chunk(2)
            value: Tensor = oracle([first, second], []).squeeze()
            return value

        assert_same(lambda e: SwAVPrototypes(PROTOTYPES)(e, NONE), theirs, two_views(N, D), scale=10)

    def test_codes_are_balanced_and_those_of_labelled_images_are_their_class(self) -> None:
        codes = sinkhorn(torch.randn(60, K, dtype=torch.float64), 200)
        torch.testing.assert_close(codes.sum(1), torch.ones(60, dtype=torch.float64))
        torch.testing.assert_close(codes.sum(0), torch.full((K,), 10.0, dtype=torch.float64), rtol=1e-6, atol=1e-6)
        labels = torch.arange(N) % K
        logits = unit(two_views(N, D)) @ PROTOTYPES.t() / 0.1
        expected = torch.nn.functional.cross_entropy(logits, labels.repeat(2))
        torch.testing.assert_close(SwAVPrototypes(PROTOTYPES)(two_views(N, D), labels), expected)


def test_fixmatch_written_out() -> None:
    threshold, temperature = 0.34, 0.2

    def plain(e: Tensor) -> Tensor:
        z = unit(e)
        known, pseudo = [], []
        for i, label in enumerate(LABELS.tolist()):
            weak, strong = z[i] @ PROTOTYPES.t() / temperature, z[N + i] @ PROTOTYPES.t() / temperature
            if label >= 0:
                known += [-weak.log_softmax(0)[label], -strong.log_softmax(0)[label]]
            else:
                sure, guess = weak.detach().softmax(0).max(0)
                pseudo.append(-strong.log_softmax(0)[guess] if sure >= threshold else 0 * strong.sum())
        return torch.stack(known).mean() + 2 * torch.stack(pseudo).mean()

    loss = FixMatchPrototypes(PROTOTYPES, temperature, threshold, weight=2.0)
    taken = unit(two_views(N, D)[:N][LABELS < 0]) @ PROTOTYPES.t() / temperature
    assert 0 < int((taken.softmax(1).max(1).values >= threshold).sum()) < len(taken)  # the test meets both sides
    assert_same(lambda e: loss(e, LABELS), plain, two_views(N, D), scale=10)


class TestSuNCEt:
    def test_it_is_neighbourhood_components_of_the_labelled_views(self) -> None:
        temperature = 0.1
        oracle = metric_losses.NCALoss(softmax_scale=1 / (2 * temperature))
        labels = LABELS.repeat(2)
        assert_same(
            lambda e: SuNCEt(temperature)(e, LABELS),
            lambda e: oracle(unit(e)[labels >= 0], labels[labels >= 0]),
            two_views(N, D),
            scale=10,
        )

    def test_one_labelled_image_or_one_class_is_zero(self) -> None:
        for labels in (NONE, torch.full((N,), 1), torch.tensor([4] + [-1] * (N - 1))):
            value, gradient = value_and_gradient(lambda e, labels=labels: SuNCEt()(e, labels), two_views(N, D))
            torch.testing.assert_close(value, torch.zeros_like(value))
            torch.testing.assert_close(gradient, torch.zeros_like(gradient))


class TestPAWS:
    def plain(self, e: Tensor, labels: Tensor, tau: float = 0.1, sharpening: float = 0.25) -> Tensor:
        z, view_labels = unit(e), labels.repeat(2)
        rows = []
        for i in range(2 * N):
            support = [j for j in range(2 * N) if view_labels[j] >= 0 and j % N != i % N]
            weights = torch.stack([z[i] @ z[j] / tau for j in support]).softmax(0)
            row = [
                sum((w for w, j in zip(weights, support, strict=True) if view_labels[j] == k), 0 * z[0, 0])
                for k in range(K)
            ]
            rows.append(torch.stack(row))
        p = torch.stack(rows)
        sharp = p ** (1 / sharpening)
        sharp = sharp / sharp.sum(1, keepdim=True)
        target = torch.cat([sharp[N:], sharp[:N]]).detach()
        target = torch.where(target < 1e-4, 0.0, target)
        mean = sharp.mean(0)
        return -(target * p.log()).sum(1).mean() + (mean * mean.log()).sum()

    def test_written_out(self) -> None:
        labels = torch.tensor([*range(K), 0, 1, 2, 3, 4, 5])  # every class keeps a supporter when an image is left out
        labels = torch.where(torch.arange(N) == 7, torch.tensor(1), labels)
        assert_same(lambda e: PAWS(K)(e, labels), lambda e: self.plain(e, labels), two_views(N, D), scale=100)

    def test_few_labels_leave_nothing_to_learn_from(self) -> None:
        for labels in (NONE, torch.tensor([4] + [-1] * (N - 1))):
            value, gradient = value_and_gradient(lambda e, labels=labels: PAWS(K)(e, labels), two_views(N, D))
            assert float(value) == 0
            assert not bool(gradient.any())

    def test_a_class_without_a_supporter_is_harmless(self) -> None:
        value, gradient = value_and_gradient(lambda e: PAWS(K)(e, LABELS.clamp(max=1)), two_views(N, D))
        assert bool(torch.isfinite(value))
        assert bool(torch.isfinite(gradient).all())


class TestTSC:
    @pytest.mark.parametrize("blocks", ["one", "many"])
    def test_written_out(self, blocks: str, monkeypatch: pytest.MonkeyPatch) -> None:
        if blocks == "many":
            small_blocks(monkeypatch)
        temperature = 0.2

        def plain(e: Tensor) -> Tensor:
            z, labels = unit(e), LABELS.repeat(2).tolist()
            columns = torch.cat([z, PROTOTYPES, PROTOTYPES])
            classes = [*labels, *range(K), *range(K)]
            terms = []
            for i in range(2 * N):
                others = [a for a in range(len(columns)) if a != i]
                total = torch.stack([(z[i] @ columns[a] / temperature).exp() for a in others]).sum()
                if labels[i] < 0:
                    positives = [(i + N) % (2 * N)]
                else:
                    positives = [a for a in others if classes[a] == labels[i]]
                terms.append(torch.stack([-(z[i] @ columns[p] / temperature - total.log()) for p in positives]).mean())
            return torch.stack(terms).mean()

        assert_same(lambda e: TSC(PROTOTYPES, temperature)(e, LABELS), plain, two_views(N, D), scale=5)

    def test_far_prototypes_leave_supcon_and_without_labels_info_nce(self) -> None:
        # Embeddings orthogonal to all prototypes, at a temperature at which exp(0) does not count beside exp(1/T).
        prototypes = torch.eye(K, D, dtype=torch.float64)
        embeddings = two_views(N, D)
        embeddings[:, :K] = 0
        embeddings += 3 * torch.nn.functional.one_hot(torch.tensor(K), D)
        value = TSC(prototypes, 0.01)(embeddings, NONE)
        torch.testing.assert_close(value, InfoNCE(0.01)(embeddings, NONE), rtol=1e-9, atol=1e-9)
        assert float(TSC(prototypes, 0.01)(embeddings, LABELS)) > float(SupCon(0.01)(embeddings, LABELS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SwAVPrototypes(PROTOTYPES, epsilon=0.0), "epsilon=0.0: must be"),
        (lambda: SwAVPrototypes(PROTOTYPES, iterations=0), "iterations=0: must be at least 1"),
        (lambda: FixMatchPrototypes(PROTOTYPES, threshold=1.5), "threshold=1.5: must be"),
        (lambda: FixMatchPrototypes(PROTOTYPES, weight=-1.0), "weight=-1.0: must be"),
        (lambda: SuNCEt(0.0), "temperature=0.0: must be"),
        (lambda: PAWS(K, sharpening=0.0), "sharpening=0.0: must be"),
        (lambda: TSC(PROTOTYPES, -1.0), "temperature=-1.0: must be"),
    ],
)
def test_bad_input(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
