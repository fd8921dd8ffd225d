"""SimMatch beside a transcription of its formulas in loops, and its bank; FixMatch's views."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clop_det.data.views import Views
from clop_det.methods import EmbeddingMethod
from clop_det.methods.fixmatch import FixMatch
from clop_det.methods.simmatch import SimMatch

from .helpers import CLASSES, N, built, labels_of, made

T, ALPHA, SURE, STEPS = 0.3, 0.6, 0.4, 3


def plain_step(
    method: Any, views: Views, labels: Tensor, bank: list[tuple[Tensor, int]], means: list[Tensor]
) -> dict[str, Tensor]:
    """The parts; `means` gets the mean guess of this step."""
    features, embeddings = method.encoder(views.stacked)
    unit = F.normalize(embeddings, dim=1)
    scores = method.classifier(features)
    guesses = [scores[i].detach().softmax(0) for i, label in enumerate(labels.tolist()) if label < 0]
    means += [torch.stack(guesses).mean(0)] if guesses else []
    terms: dict[str, list[Tensor]] = {"supervised": [], "pseudo": [], "instances": []}
    for i, label in enumerate(labels.tolist()):
        p, log_strong = scores[i].softmax(0), scores[N + i].log_softmax(0)
        if label >= 0:
            terms["supervised"].append(-p[label].log())
        if label >= 0 or not bank:
            continue
        near = torch.stack([unit[i] @ row / T for row, _ in bank]).softmax(0)
        other = torch.stack([unit[N + i] @ row / T for row, _ in bank]).log_softmax(0)
        gathered = torch.stack(
            [sum((q for q, (_, y) in zip(near, bank, strict=True) if y == k), torch.zeros(())) for k in range(CLASSES)]
        )
        p = p.detach() / torch.stack(means[-STEPS:]).mean(0)
        p = p / p.sum()
        guess = (ALPHA * p + (1 - ALPHA) * gathered).detach()
        unfolded = torch.stack([q * p[y] for q, (_, y) in zip(near, bank, strict=True)]).detach()
        unfolded = unfolded / unfolded.sum()
        terms["pseudo"].append(-(guess * log_strong).sum() * float(guess.max() >= SURE))
        terms["instances"].append(-(unfolded * other).sum())
    zero = torch.zeros((), dtype=torch.float64)
    return {f"simmatch_{name}": torch.stack(values).mean() if values else zero for name, values in terms.items()}


def test_the_formulas_written_out_over_steps_that_fill_and_overflow_the_bank() -> None:
    method = built(SimMatch, temperature=T, bank=10, smoothing=ALPHA, threshold=SURE, alignment=STEPS)
    bank: list[tuple[Tensor, int]] = []
    means: list[Tensor] = []
    for step in range(6):
        views, labels = made(step), labels_of(step)
        plain = copy.deepcopy(method)
        expected = plain_step(plain, views, labels, bank, means)
        parts = method.step(views, labels)
        torch.testing.assert_close(parts, expected)
        sum(parts.values()).backward()  # type: ignore[union-attr]
        sum(expected.values()).backward()  # type: ignore[union-attr]
        for ours, theirs in zip(method.parameters(), plain.parameters(), strict=True):
            expected_gradient = torch.zeros_like(ours) if theirs.grad is None else theirs.grad
            torch.testing.assert_close(ours.grad, expected_gradient, rtol=1e-9, atol=1e-11)
        method.zero_grad()
        with torch.no_grad():
            unit = F.normalize(copy.deepcopy(plain).encoder(views.stacked)[1], dim=1)
            bank += [(unit[i], label) for i, label in enumerate(labels.tolist()) if label >= 0]
            bank = bank[-10:]
        method.after_step(1.0)
    assert len(bank) == 10
    assert len(means) > STEPS


def test_guesses_that_are_all_alike_are_aligned_to_equal_shares() -> None:
    guesses = torch.tensor([0.2, 0.7, 0.1], dtype=torch.float64).repeat(N, 1)
    method, plain = built(SimMatch), built(SimMatch, alignment=0)
    for each in (method, plain):
        each._latest = torch.empty(0), torch.zeros(N, CLASSES)  # no image has a label
    torch.testing.assert_close(method._aligned(guesses), torch.full_like(guesses, 1 / 3))
    assert plain._aligned(guesses) is guesses


def test_without_a_bank_or_a_label_nothing_is_learnt_and_nothing_breaks() -> None:
    method = built(SimMatch, bank=8)
    parts = method.step(made(0), torch.full((N,), -1))
    assert {name: value.item() for name, value in parts.items()} == dict.fromkeys(parts, 0)
    sum(parts.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    method.after_step(1.0)
    assert not method.bank_labels.rows.any()


def test_fixmatch_asks_for_a_weak_and_a_strong_view_and_takes_micro_batches() -> None:
    method = built(FixMatch)
    assert [group.kinds for group in method.views_needed] == [("weak", "standard")]
    assert isinstance(method, EmbeddingMethod)
    labels = labels_of(1)
    embeddings = copy.deepcopy(method.encoder)(made(1).stacked)[1]
    torch.testing.assert_close(method.step(made(1), labels), method.loss.parts(embeddings, labels))


def test_it_needs_classes_and_a_bank() -> None:
    with pytest.raises(ValueError, match="it needs labels, but no image has one"):
        built(SimMatch, classes=0)
    with pytest.raises(ValueError, match="queue=0"):
        built(SimMatch, bank=0)
