"""Methods with a momentum teacher, step by step beside lightly's parts or a plain transcription of the update rules."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NegativeCosineSimilarity, NTXentLoss
from lightly.models.utils import update_momentum
from torch import Tensor, nn

from clop_det.methods.byol import Byol
from clop_det.methods.dino import Dino
from clop_det.methods.moco_v2 import MoCoV2
from clop_det.methods.moco_v3 import MoCoV3
from clop_det.methods.parts import Queue

from .helpers import CLASSES, DIM, N, built, labels_of, made

STEPS, RATE = 20, 0.05
EVERY: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (Byol, {}),
    (MoCoV2, {"queue": 5 * N}),
    (MoCoV3, {}),
    (Dino, {"prototypes": 7, "local_views": 0}),
]


def train(method: Any, small: int = 0) -> list[float]:
    """The losses of 20 steps."""
    optimizer = torch.optim.SGD([p for module in method.trained for p in module.parameters()], lr=RATE)
    values = []
    for step in range(STEPS):
        optimizer.zero_grad()
        (value,) = method.step(made(step, small=small), labels_of(step)).values()
        value.backward()
        optimizer.step()
        method.after_step((step + 1) / STEPS)
        values.append(value.item())
    return values


class Plain:
    """Student and teacher of the same start as `method`, trained by lightly's parts."""

    def __init__(self, method: Any, cosine: bool, *extra: nn.Module) -> None:
        self.student, self.teacher = copy.deepcopy(method.student), copy.deepcopy(method.student)
        self.cosine, self.momentum = cosine, method.momentum
        self.extra = extra
        parameters = [p for module in (self.student, *extra) for p in module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, lr=RATE)
        self.values: list[float] = []

    def embed(self, step: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        views = made(step).stacked
        with torch.no_grad():
            teacher = self.teacher(views)[1].chunk(2)
        return self.student(views)[1].chunk(2), teacher

    def update(self, step: int, value: Tensor) -> float:
        self.optimizer.zero_grad()
        value.backward()
        self.optimizer.step()
        self.values.append(value.item())
        rise = (math.cos(math.pi * (step + 1) / STEPS) + 1) / 2
        keep = 1 - (1 - self.momentum) * rise if self.cosine else self.momentum
        update_momentum(self.student, self.teacher, m=keep)
        return keep


def assert_equal_networks(method: Any, plain: Plain) -> None:
    for ours, theirs in ((method.student, plain.student), (method.teacher, plain.teacher)):
        for name, tensor in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-9, atol=1e-10, msg=name)


def test_byol_is_lightly_s_over_twenty_steps() -> None:
    method = built(Byol, momentum=0.9, hidden_dim=16)
    predictor = copy.deepcopy(method.predictor)
    plain, criterion = Plain(method, True, predictor), NegativeCosineSimilarity()
    for step in range(STEPS):
        (first, second), (target, other) = plain.embed(step)
        predicted = predictor(torch.cat([first, second])).chunk(2)
        value = criterion(predicted[0], other) + criterion(predicted[1], target)
        plain.update(step, 4 + 2 * value)
    assert train(method) == pytest.approx(plain.values, rel=1e-9)
    assert_equal_networks(method, plain)


def test_moco_v2_is_lightly_s_with_its_memory_bank() -> None:
    method = built(MoCoV2, momentum=0.8, temperature=0.3, queue=6 * N)
    plain, criterion = Plain(method, False), NTXentLoss(temperature=0.3, memory_bank_size=(6 * N, DIM))
    bank = criterion.memory_bank
    bank.bank = method.queue.rows.clone()
    for step in range(STEPS):
        (first, second), (key, other) = plain.embed(step)
        before, place, value = bank.bank.clone(), bank.bank_ptr.clone(), torch.zeros((), dtype=torch.float64)
        for query, positive in ((first, other), (second, key)):
            value = value + criterion(query, positive) / 2
            bank.bank, bank.bank_ptr = before.clone(), place.clone()
        plain.update(step, value)
        bank(F.normalize(torch.cat([key, other]), dim=1), update=True)
    assert train(method) == pytest.approx(plain.values, rel=1e-9)
    assert_equal_networks(method, plain)
    torch.testing.assert_close(method.queue.rows, bank.bank)


def test_moco_v3_is_lightly_s_contrast_with_the_other_images_as_its_bank() -> None:
    method = built(MoCoV3, momentum=0.9, temperature=0.2, hidden_dim=16)
    predictor = copy.deepcopy(method.predictor)
    plain = Plain(method, True, predictor)
    for step in range(STEPS):
        embedded, keys = plain.embed(step)
        queries = predictor(torch.cat(embedded)).chunk(2)
        value = torch.zeros((), dtype=torch.float64)
        for query, key in ((queries[0], keys[1]), (queries[1], keys[0])):
            for i in range(N):
                criterion = NTXentLoss(temperature=0.2, memory_bank_size=(N - 1, DIM))
                criterion.memory_bank.bank = F.normalize(torch.cat([key[:i], key[i + 1 :]]), dim=1)
                value = value + criterion(query[i : i + 1], key[i : i + 1]) / N
        plain.update(step, 2 * 0.2 * value)
    assert train(method) == pytest.approx(plain.values, rel=1e-9)
    assert_equal_networks(method, plain)


@pytest.mark.parametrize(("kind", "options"), EVERY)
@pytest.mark.parametrize("cosine", [True, False])
def test_the_teacher_follows_parameter_by_parameter(kind: Any, options: dict[str, Any], cosine: bool) -> None:
    method = built(kind, **options, momentum=0.7, cosine=cosine)
    before = copy.deepcopy(method.teacher)
    with torch.no_grad():
        for parameter in method.student.parameters():
            parameter.add_(torch.randn_like(parameter))
    method.step(made(0), labels_of(0))
    method.after_step(0.25)
    keep = 1 - 0.3 * (math.cos(math.pi / 4) + 1) / 2 if cosine else 0.7
    moved = zip(method.teacher.parameters(), before.parameters(), method.student.parameters(), strict=True)
    for teacher, old, student in moved:
        torch.testing.assert_close(teacher, keep * old + (1 - keep) * student)


@pytest.mark.parametrize(("kind", "options"), EVERY)
@pytest.mark.parametrize("probed", ["student", "teacher"])
def test_what_is_probed_is_the_encoder_and_gradients_reach_the_student_alone(
    kind: Any, options: dict[str, Any], probed: str
) -> None:
    method = built(kind, **options, probed=probed)
    assert method.encoder is getattr(method, probed)
    sum(method.step(made(0), labels_of(0)).values()).backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.student.parameters())
    learned = {p for module in method.trained for p in module.parameters()}
    assert not learned & set(method.teacher.parameters())
    assert "paired" in method.heads
    names = {name.split(".")[0] for name in method.state_dict()}
    assert names == {"encoder", *method.heads}


@pytest.mark.parametrize(("kind", "options"), EVERY)
def test_a_pull_to_prototypes_is_added_by_its_weight(kind: Any, options: dict[str, Any]) -> None:
    method, alone = built(kind, **options, loss_weight=0.3), built(kind, **options)
    labels = labels_of(1)
    assert (labels >= 0).any()
    parts, own = method.step(made(1), labels), alone.step(made(1), labels)
    assert alone.loss is None
    assert set(parts) == {*own, "prototype_pull"}
    torch.testing.assert_close({name: parts[name] for name in own}, own)
    embeddings = copy.deepcopy(alone.student)(made(1).stacked)[1]
    torch.testing.assert_close(parts["prototype_pull"], 0.3 * method.loss(embeddings, labels))
    assert method.loss.num_classes == CLASSES


def test_the_queue_is_a_list_of_the_latest_rows() -> None:
    torch.manual_seed(0)
    queue = Queue(7, 2)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(7))
    listed = list(queue.rows)
    for count in (3, 3, 3, 1, 7, 9, 2):
        rows = torch.randn(count, 2)
        listed = [*listed, *rows][-7:]
        queue.add(rows)
    kept = {tuple(row.tolist()) for row in queue.rows}
    assert kept == {tuple(row.tolist()) for row in listed}
    with pytest.raises(ValueError, match="queue=0: must be at least 1"):
        Queue(0, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"momentum": 1.5}, r"momentum=1.5: must lie in \[0, 1\]"), ({"probed": "both"}, "probed='both': must be one of")],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(Byol, **options)
