"""Cross-entropy: labelled views alone, exactly 0 without any."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from clop_det.losses import CrossEntropy
from tests.losses.helpers import some_labels, two_views


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mean_over_the_labelled_views(smoothing: float) -> None:
    loss = CrossEntropy(3, 5, smoothing).double()
    embeddings, labels = two_views(20, 5).requires_grad_(), some_labels(20, 3)
    keep = labels.repeat(2) >= 0
    logits = loss.classifier(embeddings[keep])
    expected = F.cross_entropy(logits, labels.repeat(2)[keep], label_smoothing=smoothing)
    value = loss(embeddings, labels)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    inputs = [embeddings, *loss.parameters()]
    for ours, theirs in zip(torch.autograd.grad(value, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_classifier_of_zeros_gives_the_log_of_the_classes() -> None:
    loss = CrossEntropy(7, 5)
    torch.nn.init.zeros_(loss.classifier.weight)
    torch.nn.init.zeros_(loss.classifier.bias)
    assert loss(two_views(9, 5), some_labels(9, 7)).item() == pytest.approx(math.log(7), rel=1e-6)


def test_no_label_is_exactly_zero_with_a_live_graph() -> None:
    loss = CrossEntropy(3, 5)
    embeddings = two_views(4, 5, torch.float32).requires_grad_()
    value = loss(embeddings, torch.full((4,), -1))
    assert value.item() == 0
    value.backward()
    for tensor in (embeddings, *loss.parameters()):
        assert tensor.grad is not None
        assert not tensor.grad.any()


def test_the_classifier_trains_on_embeddings_without_gradient() -> None:
    loss = CrossEntropy(3, 5)
    loss(two_views(9, 5, torch.float32), some_labels(9, 3)).backward()
    assert loss.classifier.weight.grad is not None
    assert loss.classifier.weight.grad.abs().sum() > 0


def test_bad_input_names_argument_value_and_rule() -> None:
    with pytest.raises(ValueError, match=r"label_smoothing=1.0: must be at least 0 and below 1"):
        CrossEntropy(3, 5, 1.0)
    with pytest.raises(ValueError, match="labels: holds 3; must be below num_classes=3"):
        CrossEntropy(3, 5)(two_views(2, 5), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="embeddings: 4 dimensions; the prototypes or the classifier have 5"):
        CrossEntropy(3, 5)(two_views(2, 4), torch.tensor([0, 1]))
