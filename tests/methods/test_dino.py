"""DINO step by step beside lightly's parts and beside its algorithm written out."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss
from lightly.models.utils import update_momentum
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from clop_det.methods.dino import Dino

from .helpers import N, built, labels_of, made
from .test_momentum import STEPS, Plain, assert_equal_networks, train

CENTRE = 0.9
OPTIONS = {"momentum": 0.9, "prototypes": 7, "local_size": 4, "freeze": 0.0, "centre_momentum": CENTRE}
OPTIONS |= {"warmup_temperature": 0.03, "teacher_temperature": 0.07, "warmup": 0.5}


def normed_head(weight: Tensor) -> Any:
    """The last layer of DINO's head: weight_norm with lengths fixed at 1."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
    layer.weight.data.copy_(weight)
    layer = weight_norm(layer)
    layer.parametrizations.weight.original0.data.fill_(1)
    layer.parametrizations.weight.original0.requires_grad = False
    return layer


@pytest.fixture
def _double() -> Iterator[None]:
    """lightly makes its centre and its temperature in the default precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("small", [0, 3])
def test_dino_is_lightly_s_with_crops_of_two_sizes(small: int) -> None:
    method = built(Dino, **OPTIONS, local_views=small)
    head, teacher_head = normed_head(method.head.weight.detach()), normed_head(method.head.weight.detach())
    plain, criterion = Plain(method, True, head), DINOLoss(output_dim=7, student_temp=0.1, center_momentum=CENTRE)
    for step in range(STEPS):
        embedded, teacher = plain.embed(step)
        views = list(embedded)
        if small:
            (group,) = made(step, small=small).further
            views += plain.student(group.stacked)[1].chunk(small)
        with torch.no_grad():
            targets = [teacher_head(F.normalize(rows, dim=1)) for rows in teacher]
        students = [head(F.normalize(rows, dim=1)) for rows in views]
        temperature = 0.03 + 0.04 * min(1.0, step / STEPS / 0.5)
        keep = plain.update(step, criterion(targets, students, teacher_temp=temperature))
        update_momentum(head, teacher_head, m=keep)
        for layer in (head, teacher_head):  # ours keeps no length, so theirs must not count either
            assert torch.equal(layer.parametrizations.weight.original0, torch.ones(7, 1, dtype=torch.float64))
    assert train(method, small) == pytest.approx(plain.values, rel=1e-9)
    assert_equal_networks(method, plain)
    torch.testing.assert_close(method.centre, criterion.center.flatten())


def test_dino_s_prototypes_stand_still_at_the_start() -> None:
    method = built(Dino, prototypes=7, local_views=0, freeze=0.5)
    start = method.head.weight.detach().clone()
    optimizer = torch.optim.SGD([method.head.weight], lr=1.0)
    for step, moves in ((0, False), (1, True)):
        optimizer.zero_grad()
        method.step(made(step), labels_of(step))["dino"].backward()
        optimizer.step()
        assert torch.equal(method.head.weight, start) != moves
        method.after_step(0.5)


def test_its_algorithm_written_out() -> None:
    """Algorithm 1 by loops over images, pairs of views and prototypes; the centre and the teacher followed by hand."""
    method = built(Dino, **OPTIONS, local_views=2)
    plain, centre = copy.deepcopy(method), [0.0] * 7
    for step in range(3):
        views = made(step, small=2)
        large, small = plain.student(views.stacked)[1], plain.student(views.further[0].stacked)[1]
        with torch.no_grad():
            target = plain.teacher(views.stacked)[1]
        students = [*large.chunk(2), *small.chunk(2)]
        temperature = 0.03 + 0.04 * min(1.0, step / 3 / 0.5)

        def scores(row: Tensor, weight: Tensor) -> Tensor:
            return torch.stack([F.cosine_similarity(row, prototype, dim=0) for prototype in weight])

        terms, met = [], []
        for i in range(N):
            for u, teacher in enumerate(target.chunk(2)):
                t = scores(teacher[i], plain.teacher_head.weight).detach()
                met.append(t.tolist())
                p = ((t - torch.tensor(centre)) / temperature).softmax(0)
                for v, student in enumerate(students):
                    if v != u:
                        s = (scores(student[i], plain.head.weight) / 0.1).softmax(0)
                        terms.append(-sum(p[k] * s[k].log() for k in range(7)))
        value, ours = torch.stack(terms).mean(), method.step(views, labels_of(step))["dino"]
        torch.testing.assert_close(ours, value)
        keep = 1 - 0.1 * (math.cos(math.pi * (step + 1) / 3) + 1) / 2
        for each, loss in ((method, ours), (plain, value)):
            each.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in (*each.student.parameters(), *each.head.parameters()):
                    parameter -= 0.1 * parameter.grad
        method.after_step((step + 1) / 3)
        centre = [CENTRE * c + (1 - CENTRE) * sum(t[k] for t in met) / len(met) for k, c in enumerate(centre)]
        pairs = [(plain.teacher, plain.student), (plain.teacher_head, plain.head)]
        for slow, fast in pairs:
            for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
                old.data = keep * old.data + (1 - keep) * new.data
        torch.testing.assert_close(method.centre, torch.tensor(centre, dtype=torch.float64))
        for name, tensor in plain.teacher.state_dict().items():
            torch.testing.assert_close(method.teacher.state_dict()[name], tensor, rtol=1e-9, atol=1e-10, msg=name)
