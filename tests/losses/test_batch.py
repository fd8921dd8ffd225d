"""The input of every loss is checked: NaN, shapes, dtypes, labels."""

from __future__ import annotations

import math

import pytest
import torch

from clop_det.losses import InfoNCE, build_loss, loss_names
from clop_det.losses.batch import gather_batch
from tests.losses.helpers import two_views

GOOD = two_views(3, 4, torch.float32)
LABELS = torch.tensor([0, -1, 1])


def _with(value: float) -> torch.Tensor:
    changed = GOOD.clone()
    changed[2, 1] = value
    return changed


@pytest.mark.parametrize("name", loss_names())
@pytest.mark.parametrize(
    ("embeddings", "labels", "message"),
    [
        (_with(math.nan), LABELS, "embeddings: 1 values are NaN or infinite; all must be finite"),
        (_with(-math.inf), LABELS, "embeddings: 1 values are NaN or infinite; all must be finite"),
        (GOOD[:5], LABELS, "embeddings: 5 rows; must be an even number"),
        (GOOD[:0], LABELS[:0], "embeddings: 0 rows; must be an even number"),
        (GOOD[:, :0], LABELS, "embeddings: 0 dimensions; must be at least 1"),
        (GOOD[0], LABELS, r"embeddings: torch.float32 of shape \(4,\); must be a floating-point tensor"),
        (GOOD.long(), LABELS, r"embeddings: torch.int64 of shape \(6, 4\); must be a floating-point tensor"),
        (GOOD.tolist(), LABELS, "embeddings: list; must be a floating-point tensor"),
        (GOOD, LABELS.float(), r"labels: torch.float32 of shape \(3,\); must be integers of shape \(3,\)"),
        (GOOD, LABELS >= 0, r"labels: torch.bool of shape \(3,\); must be integers of shape \(3,\)"),
        (GOOD, LABELS.repeat(2), r"labels: torch.int64 of shape \(6,\); must be integers of shape \(3,\)"),
        (GOOD, [0, 1, 2], r"labels: list; must be integers of shape \(3,\)"),
        (GOOD, LABELS - 1, "labels: holds -2; must be -1"),
    ],
)
def test_bad_input_names_argument_value_and_rule(
    name: str, embeddings: torch.Tensor, labels: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_loss(name, {}, 3, 4)(embeddings, labels)


@pytest.mark.parametrize("name", ["clop", "cross_entropy", "prototype_pull"])
def test_a_label_beyond_the_classes_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="labels: holds 3; must be below num_classes=3"):
        build_loss(name, {}, 3, 4)(GOOD, torch.tensor([0, 3, -1]))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32])
def test_labels_of_any_integer_type_are_read(dtype: torch.dtype) -> None:
    batch = gather_batch(GOOD, torch.tensor([0, 2, 1], dtype=dtype))
    assert batch.labels.dtype == torch.int64
    assert batch.view_labels.tolist() == [0, 2, 1, 0, 2, 1]
    assert (batch.num_images, batch.local_rows) == (3, (slice(0, 3), slice(3, 6)))


def test_the_input_is_left_as_it_was() -> None:
    embeddings, labels = GOOD.clone(), LABELS.clone()
    InfoNCE(0.1)(embeddings, labels)
    assert torch.equal(embeddings, GOOD)
    assert torch.equal(labels, LABELS)
