"""InfoNCE, SupCon and DCL against independent implementations, loops from the papers, and closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import lightly.loss
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_metric_learning import losses as metric_losses
from torch import Tensor

from benchmarks.plain_losses import plain_dcl, plain_info_nce, plain_supcon
from clop_det.losses import CLOP, DCL, InfoNCE, Loss, SupCon, orthonormal_prototypes
from tests.losses.helpers import (
    assert_same,
    distinct_classes,
    small_blocks,
    some_labels,
    two_views,
    value_and_gradient,
)

SIZES = [(1, 2), (2, 3), (7, 4), (33, 16)]
WITH_NEGATIVES = SIZES[1:]  # DCL needs them; pytorch-metric-learning returns 0 without
WITH_TWO_CLASSES = SIZES[2:]
TEMPERATURES = [1.0, 0.2, 0.05, 0.02]
UNLABELLED = torch.full((33,), -1)


@pytest.fixture(params=["one block", "many blocks"])
def _blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many blocks":
        small_blocks(monkeypatch)


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("temperature", TEMPERATURES)
class TestOracles:
    @pytest.mark.parametrize(("num_images", "dim"), SIZES)
    def test_info_nce_equals_lightly(self, num_images: int, dim: int, temperature: float) -> None:
        oracle = lightly.loss.NTXentLoss(temperature, memory_bank_size=0)
        assert_same(
            lambda e: InfoNCE(temperature)(e, UNLABELLED[:num_images]),
            lambda e: oracle(*e.chunk(2)),
            two_views(num_images, dim),
            scale=1 / temperature,
        )

    @pytest.mark.parametrize(("num_images", "dim"), WITH_NEGATIVES)
    def test_info_nce_equals_pytorch_metric_learning(self, num_images: int, dim: int, temperature: float) -> None:
        oracle = metric_losses.SelfSupervisedLoss(metric_losses.NTXentLoss(temperature), symmetric=True)
        assert_same(
            lambda e: InfoNCE(temperature)(e, UNLABELLED[:num_images]),
            lambda e: oracle(*e.chunk(2)),
            two_views(num_images, dim),
            scale=1 / temperature,
        )

    @pytest.mark.parametrize(("num_images", "dim"), WITH_NEGATIVES)
    def test_dcl_equals_lightly(self, num_images: int, dim: int, temperature: float) -> None:
        oracle = lightly.loss.DCLLoss(temperature)
        assert_same(
            lambda e: DCL(temperature)(e, UNLABELLED[:num_images]),
            lambda e: oracle(*e.chunk(2)),
            two_views(num_images, dim),
            scale=1 / temperature,
        )

    @pytest.mark.parametrize(("num_images", "dim"), WITH_TWO_CLASSES)
    def test_supcon_equals_pytorch_metric_learning(self, num_images: int, dim: int, temperature: float) -> None:
        labels = some_labels(num_images, 3)
        oracle = metric_losses.SupConLoss(temperature)
        assert_same(
            lambda e: SupCon(temperature)(e, labels),
            lambda e: oracle(e, distinct_classes(labels)),
            two_views(num_images, dim),
            scale=1 / temperature,
        )


@pytest.mark.usefixtures("_blocks")
@pytest.mark.parametrize("temperature", [0.5, 0.01, 0.001])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equal_to_the_plain_forms(temperature: float, dtype: torch.dtype) -> None:
    embeddings, labels = two_views(19, 5, dtype), some_labels(19, 3)
    scale = 1 / temperature**2
    assert_same(lambda e: InfoNCE(temperature)(e, labels), lambda e: plain_info_nce(e, temperature), embeddings, scale)
    assert_same(lambda e: DCL(temperature)(e, labels), lambda e: plain_dcl(e, temperature), embeddings, scale)
    assert_same(
        lambda e: SupCon(temperature)(e, labels), lambda e: plain_supcon(e, labels, temperature), embeddings, scale
    )


def _by_loops(embeddings: Tensor, labels: Tensor, temperature: float, kind: str) -> float:
    """The papers' sums, one view after the other."""
    unit = (embeddings / embeddings.norm(dim=1, keepdim=True)).tolist()
    images = len(labels)
    total = 0.0
    for i in range(2 * images):
        other = (i + images) % (2 * images)
        label = int(labels[i % images])
        same = [a for a in range(2 * images) if a != i and label >= 0 and int(labels[a % images]) == label]
        positives = same if kind == "supcon" and same else [other]
        left_out = {i, other} if kind == "dcl" else {i}

        def exponential(a: int, anchor: int = i) -> float:
            return math.exp(sum(x * y for x, y in zip(unit[anchor], unit[a], strict=True)) / temperature)

        below = sum(exponential(a) for a in range(2 * images) if a not in left_out)
        total += sum(-math.log(exponential(p) / below) for p in positives) / len(positives)
    return total / (2 * images)


@pytest.mark.parametrize(("kind", "loss"), [("info_nce", InfoNCE(0.3)), ("supcon", SupCon(0.3)), ("dcl", DCL(0.3))])
def test_equal_to_loops_from_the_papers(kind: str, loss: Loss) -> None:
    embeddings, labels = two_views(9, 4), some_labels(9, 2)
    assert loss(embeddings, labels).item() == pytest.approx(_by_loops(embeddings, labels, 0.3, kind), rel=1e-12)


@pytest.mark.parametrize("images", [1, 2, 10, 100])
def test_identical_embeddings_give_the_log_of_the_candidates(images: int) -> None:
    embeddings = torch.ones(2 * images, 6, dtype=torch.float64)
    labels = torch.arange(images) % 3 - 1
    for loss in (InfoNCE(0.1), SupCon(0.1)):
        assert loss(embeddings, labels).item() == pytest.approx(math.log(2 * images - 1), abs=1e-12)
    if images > 1:
        assert DCL(0.1)(embeddings, labels).item() == pytest.approx(math.log(2 * images - 2), abs=1e-12)


def test_orthonormal_pairs_have_the_closed_form() -> None:
    images, temperature = 5, 0.25
    embeddings = torch.eye(images, 8, dtype=torch.float64).repeat(2, 1)
    expected = math.log(math.exp(1 / temperature) + 2 * images - 2) - 1 / temperature
    assert InfoNCE(temperature)(embeddings, UNLABELLED[:images]).item() == pytest.approx(expected, rel=1e-12)


def test_supcon_without_labels_is_info_nce() -> None:
    embeddings = two_views(11, 4)
    assert_same(lambda e: SupCon(0.2)(e, UNLABELLED[:11]), lambda e: InfoNCE(0.2)(e, UNLABELLED[:11]), embeddings)


def test_supcon_reads_labels_as_names_alone() -> None:
    embeddings, labels = two_views(12, 4), some_labels(12, 3)
    far = torch.where(labels < 0, labels, labels * 10**12 + 5)
    assert_same(lambda e: SupCon(0.2)(e, labels), lambda e: SupCon(0.2)(e, far), embeddings)


CONTRASTIVE: list[Callable[[float], Loss]] = [
    InfoNCE,
    SupCon,
    DCL,
    lambda temperature: CLOP(InfoNCE(temperature), orthonormal_prototypes(4, 6)),
    lambda temperature: CLOP(SupCon(temperature), orthonormal_prototypes(4, 6)),
]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.integers(0, len(CONTRASTIVE) - 1),
    images=st.integers(2, 14),
    classes=st.integers(1, 4),
    temperature=st.floats(0.01, 5.0),
    seed=st.integers(0, 10**6),
)
def test_views_may_swap_and_images_may_change_places(
    kind: int, images: int, classes: int, temperature: float, seed: int
) -> None:
    loss = CONTRASTIVE[kind](temperature)
    embeddings, labels = two_views(images, 6, seed=seed), some_labels(images, classes, seed)
    value, gradient = value_and_gradient(lambda e: loss(e, labels), embeddings)
    swapped, swapped_gradient = value_and_gradient(lambda e: loss(e, labels), embeddings.roll(images, 0))
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    rows = torch.cat([order, order + images])
    moved, moved_gradient = value_and_gradient(lambda e: loss(e, labels[order]), embeddings[rows])
    close = {"atol": 1e-11 / temperature, "rtol": 1e-11}
    torch.testing.assert_close(swapped, value, **close)
    torch.testing.assert_close(moved, value, **close)
    torch.testing.assert_close(swapped_gradient, gradient.roll(images, 0), **close)
    torch.testing.assert_close(moved_gradient, gradient[rows], **close)


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 20),
    dim=st.integers(1, 9),
    classes=st.integers(1, 6),
    temperature=st.floats(0.005, 10.0),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 10**6),
)
def test_any_batch_agrees_with_the_plain_form(
    images: int, dim: int, classes: int, temperature: float, scale: float, seed: int
) -> None:
    embeddings, labels = two_views(images, dim, seed=seed), some_labels(images, classes, seed)
    tolerance = 10 / temperature
    assert_same(
        lambda e: SupCon(temperature)(scale * e, labels),
        lambda e: plain_supcon(e, labels, temperature),  # the length of an embedding does not count
        embeddings,
        tolerance,
    )
    assert_same(
        lambda e: InfoNCE(temperature)(e, labels), lambda e: plain_info_nce(e, temperature), embeddings, tolerance
    )
    if images > 1:
        assert_same(lambda e: DCL(temperature)(e, labels), lambda e: plain_dcl(e, temperature), embeddings, tolerance)


@pytest.mark.parametrize("loss", [InfoNCE(0.2), DCL(0.2)])
def test_rotations_do_not_count(loss: Loss) -> None:
    embeddings = two_views(9, 5)
    rotation, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
    torch.testing.assert_close(loss(embeddings @ rotation, UNLABELLED[:9]), loss(embeddings, UNLABELLED[:9]))


@pytest.mark.parametrize("loss_class", [InfoNCE, SupCon, DCL])
@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan, math.inf])
def test_a_temperature_that_is_not_above_zero_is_refused(loss_class: type[Loss], temperature: float) -> None:
    with pytest.raises(ValueError, match=r"temperature=.*must be a finite number above 0"):
        loss_class(temperature)  # type: ignore[arg-type]


def test_dcl_of_one_image_is_refused() -> None:
    with pytest.raises(ValueError, match="1 images over all ranks; this loss is defined from 2 on"):
        DCL(0.2)(two_views(1, 4), UNLABELLED[:1])
