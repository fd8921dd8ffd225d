"""The dense method beside a transcription in loops and beside lightly's parts, and where cells lie."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from lightly.models.utils import nearest_neighbors, select_most_similar, update_momentum
from torch import Tensor, nn

from clop_det.backbones import Backbone, Stage
from clop_det.data.views import Views
from clop_det.losses import Loss, PrototypePull, orthonormal_prototypes
from clop_det.methods import Encoder, MethodContext, build_projector
from clop_det.methods.dense import Dense, cell_centres

from .helpers import CLASSES, DIM, N, labels_of, made

T, WEIGHT, GRID = 0.3, 0.4, 2


class TwoStages(Backbone):
    def __init__(self) -> None:
        super().__init__()
        self.map_shapes = {"res2": Stage(6, 1), "res3": Stage(12, 2)}
        self.feature_dim = 12
        self.res2, self.res3 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 12, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(12)  # behind the pooling, as ConvNeXt's
        nn.init.uniform_(self.norm.weight)

    def maps(self, images: Tensor) -> dict[str, Tensor]:
        first = self.res2(images).relu()
        return {"res2": first, "res3": self.res3(first)}

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.norm(self.maps(images)["res3"].mean((2, 3)))
        return pooled


def built(**options: Any) -> Dense:
    torch.manual_seed(5)

    def pull() -> Loss:
        return PrototypePull(orthonormal_prototypes(CLASSES, DIM))

    encoder = Encoder(TwoStages(), build_projector(12, 10, DIM), 12, DIM)
    context = MethodContext(encoder, pull, CLASSES, [0.0] * 3, [1.0] * 3)
    return Dense(context, temperature=T, weight=WEIGHT, grid=GRID, **{"queue": 10, **options}).double().train()


def placed(views: Views, seed: int, spread: float = 6) -> Views:
    """The same pixels, said to come from boxes here and there."""
    generator = torch.Generator().manual_seed(seed)
    start, side = (torch.rand(2, N, 2, generator=generator) * size for size in (spread, 4 * spread / 3))
    flips = torch.rand(2, N, generator=generator) < 0.5
    return dataclasses.replace(views, boxes=torch.cat([start, start + 2 + side], -1), flips=flips)


def plain_step(method: Dense, views: Views, stage: str) -> tuple[Tensor, Tensor]:
    """Both terms by loops over images, directions and cells."""
    student, teacher = [], []
    for pixels, encoder, projector, found in (
        (views.stacked, method.student, method.dense_projector, student),
        (views.stacked, method.teacher, method.teacher_projector, teacher),
    ):
        maps = encoder.backbone.maps(pixels)
        embedded = encoder.projector(encoder.backbone(pixels))
        pooled = F.adaptive_avg_pool2d(maps[stage], GRID)
        found += [F.normalize(embedded, dim=1), pooled.flatten(2), F.normalize(projector(pooled).flatten(2), dim=1)]

    def contrast(row: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        return -torch.cat([(row @ key)[None], queue @ row]).div(T).log_softmax(0)[0]

    whole, cells = [], []
    for i in range(2 * N):
        other = (i + N) % (2 * N)
        whole.append(contrast(student[0][i], teacher[0][other], method.queue.rows))
        for s in range(GRID * GRID):
            if method.match == "features":
                similar = [F.cosine_similarity(student[1][i, :, s], teacher[1][other, :, t], dim=0) for t in range(4)]
                place = int(torch.stack(similar).argmax())
            else:
                here, there = centre(views, i, s), [centre(views, other, t) for t in range(4)]
                distances = torch.stack([(here - point).norm() for point in there])
                place, diagonal = int(distances.argmin()), max(diagonal_of(views, i), diagonal_of(views, other))
                if distances[place] > diagonal:
                    continue
            cells.append(contrast(student[2][i, :, s], teacher[2][other, :, place], method.dense_queue.rows))
    return (1 - WEIGHT) * torch.stack(whole).mean(), WEIGHT * torch.stack(cells).mean()


def centre(views: Views, row: int, cell: int) -> Tensor:
    x0, y0, x1, y1 = views.boxes.flatten(0, 1)[row].tolist()
    across, down = (cell % GRID + 0.5) / GRID, (cell // GRID + 0.5) / GRID
    across = 1 - across if views.flips.flatten()[row] else across
    return torch.tensor([x0 + across * (x1 - x0), y0 + down * (y1 - y0)])


def diagonal_of(views: Views, row: int) -> float:
    x0, y0, x1, y1 = views.boxes.flatten(0, 1)[row].tolist()
    return float((((x1 - x0) / GRID) ** 2 + ((y1 - y0) / GRID) ** 2) ** 0.5)


@pytest.mark.parametrize("match", ["features", "location"])
@pytest.mark.parametrize("stage", ["", "res2"])
def test_both_terms_written_out_over_steps(match: str, stage: str) -> None:
    method = built(match=match, stage=stage, momentum=0.8)
    for step in range(3):
        views = placed(made(step), step)
        plain = copy.deepcopy(method)
        parts = method.step(views, labels_of(step))
        expected = plain_step(plain, views, stage or "res3")
        torch.testing.assert_close(tuple(parts.values()), expected)
        sum(parts.values()).backward()  # type: ignore[union-attr]
        sum(expected).backward()  # type: ignore[union-attr]
        for ours, theirs in zip(method.parameters(), plain.parameters(), strict=True):
            if ours.grad is not None:
                torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-11)
                ours.data -= 0.1 * ours.grad
        method.zero_grad()
        method.after_step(1.0)
    assert int(method.queue.place) == int(method.dense_queue.place) == 3 * 2 * N % 10


@pytest.mark.parametrize("match", ["features", "location"])
def test_it_is_lightly_s_parts_over_twenty_steps(match: str) -> None:
    """Its contrast with a bank for each term, its rule of the most similar or of the nearest cell, its update."""
    method = built(match=match, momentum=0.9, queue=4 * N)
    plain = copy.deepcopy(method)
    pair = [torch.optim.SGD([p for m in each.trained for p in m.parameters()], lr=0.05) for each in (method, plain)]
    whole, local = (NTXentLoss(temperature=T, memory_bank_size=(4 * N, DIM)) for _ in range(2))
    for criterion, queue in ((whole, plain.queue), (local, plain.dense_queue)):
        criterion.memory_bank.bank = queue.rows.clone()
    for step in range(20):
        views = placed(made(step), step, spread=0.5)  # of nearly one place: every cell has a counterpart
        (query, seen, cells), (key, looked, targets) = (
            _looked(views, plain.student, plain.dense_projector), _looked(views, plain.teacher, plain.teacher_projector)
        )  # fmt: skip
        key, looked, targets, pooled = key.detach(), looked.detach(), targets.detach(), targets.detach().mean(1)
        other = [each.roll(N, 0) for each in (key, looked, targets)]
        if match == "features":
            chosen = select_most_similar(seen, other[1], other[2])
        else:
            centres = torch.stack([torch.stack([centre(views, i, s) for s in range(4)]) for i in range(2 * N)])
            distances = torch.cdist(centres.double(), centres.roll(N, 0).double())
            assert float(distances.min(2).values.max()) < min(diagonal_of(views, i) for i in range(2 * N))
            cells, chosen = nearest_neighbors(cells, other[2], distances, -1)
        terms = []
        for criterion, rows, keys in (
            (whole, query, other[0]),
            (local, cells.flatten(0, 1), chosen.flatten(0, 1)),
        ):
            bank = criterion.memory_bank
            kept, place = bank.bank.clone(), bank.bank_ptr.clone()
            terms.append(criterion(rows, keys))
            bank.bank, bank.bank_ptr = kept, place
        expected = {"dense_global": (1 - WEIGHT) * terms[0], "dense_cells": WEIGHT * terms[1]}
        parts = method.step(views, labels_of(step))
        torch.testing.assert_close(parts, expected, rtol=1e-9, atol=1e-10)
        for optimizer, losses in zip(pair, (parts, expected), strict=True):
            optimizer.zero_grad()
            sum(losses.values()).backward()  # type: ignore[union-attr]
            optimizer.step()
        method.after_step(1.0)
        for teacher, student in plain.followed:
            update_momentum(student, teacher, m=0.9)
        whole.memory_bank(F.normalize(key, dim=1), update=True)
        local.memory_bank(F.normalize(pooled, dim=1), update=True)
    for ours, theirs in zip(method.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(method.dense_queue.rows, local.memory_bank.bank)


def _looked(views: Views, encoder: Encoder, projector: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings (2n, d), cells of the backbone (2n, G, C) and projected cells (2n, G, d)."""
    pooled = F.adaptive_avg_pool2d(encoder.backbone.maps(views.stacked)["res3"], GRID)
    cells, projected = (each.flatten(2).transpose(1, 2) for each in (pooled, projector(pooled)))
    return encoder.projector(encoder.backbone(views.stacked)), cells, projected


def test_centres_of_cells_follow_boxes_and_flips() -> None:
    views = placed(made(0), 4)
    centres, diagonals = cell_centres(views, GRID)
    assert views.flips.any()
    for row in range(2 * N):
        for cell in range(GRID * GRID):
            torch.testing.assert_close(centres[row, cell], centre(views, row, cell))
        both = diagonal_of(views, row), diagonal_of(views, (row + N) % (2 * N))
        assert float(diagonals[row]) == pytest.approx(max(both), rel=1e-5)


def test_views_that_share_no_place_have_no_dense_term() -> None:
    method = built(match="location")
    boxes = torch.tensor([[0.0, 0, 1, 1], [500, 500, 501, 501]])[:, None].expand(2, N, 4)
    parts = method.step(dataclasses.replace(made(0), boxes=boxes), labels_of(0))
    assert float(parts["dense_cells"]) == 0
    sum(parts.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None for p in method.dense_projector.parameters())


def test_an_unknown_stage_is_named() -> None:
    with pytest.raises(ValueError, match="STAGE='res9': the backbone has the stages res2, res3"):
        built(stage="res9")
