"""Micro-batches: the gradient of the whole batch, for every method that has them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from clop_det.data.views import Views
from clop_det.errors import UserError
from clop_det.losses import build_loss
from clop_det.methods import METHODS, EmbeddingMethod
from clop_det.methods.base import MethodContext
from clop_det.methods.byol import Byol
from clop_det.methods.encoder import Encoder, build_encoder
from clop_det.methods.fixmatch import FixMatch
from clop_det.methods.moco_v2 import MoCoV2
from clop_det.methods.moco_v3 import MoCoV3
from clop_det.methods.simmatch import SimMatch
from clop_det.methods.single import Single
from clop_det.pretraining.accumulation import backward_in_pieces, join_views, running_statistics_kept, split_views
from clop_det.pretraining.build import build_method
from tests.methods.helpers import N, built, labels_of, made

from .conftest import read_options

# The methods that take micro-batches; all others refuse them.
IN_PIECES: dict[str, tuple[type[EmbeddingMethod], dict[str, Any]]] = {
    "byol": (Byol, {"momentum": 0.5, "loss_weight": 0.5}),
    "fixmatch": (FixMatch, {}),
    "moco_v2": (MoCoV2, {"momentum": 0.5, "queue": 5 * N, "loss_weight": 0.5}),
    "moco_v3": (MoCoV3, {"momentum": 0.5, "temperature": 0.3}),
    "simmatch": (SimMatch, {"bank": 10, "threshold": 0.4, "alignment": 2}),
    "single": (Single, {}),
}
SHIPPED = {name for name in METHODS.names() if METHODS.entry(name).module.startswith("clop_det.")}
MEAN, STD = [120.0] * 3, [60.0] * 3


def single(encoder: Encoder, loss: str) -> Single:
    return Single(MethodContext(encoder, lambda: build_loss(loss, {}, 3, 8), 3, MEAN, STD))


def two(pixels: Tensor) -> Views:
    """Views (2n, 3, S, S), first views then second."""
    return Views(pixels.unflatten(0, (2, -1)), torch.empty(0), torch.empty(0), ("standard", "standard"))


def model_without_batch_norm(loss: str) -> Single:
    """An encoder whose embedding of an image depends on that image alone."""
    torch.manual_seed(2)
    backbone = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    encoder = Encoder(backbone, nn.Linear(5, 8), 5, 8)
    return single(encoder, loss).double()


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(24, 3, 9, 9, dtype=torch.float64), torch.tensor([0, -1, 1, 2, -1, -1, 0, 1, -1, 2, 2, -1])


@pytest.mark.parametrize("pieces", [2, 3, 12])
@pytest.mark.parametrize("loss", ["info_nce", "supcon", "clop", "vicreg", "barlow_twins", "cross_entropy"])
def test_the_gradient_is_that_of_the_whole_batch(loss: str, pieces: int) -> None:
    model, (views, labels) = model_without_batch_norm(loss), batch()
    whole = copy.deepcopy(model)
    expected = whole(two(views), labels)
    sum(expected.values(), torch.zeros(())).backward()
    parts = backward_in_pieces(model, two(views), labels, pieces)
    assert parts.keys() == expected.keys()
    for name, part in parts.items():
        torch.testing.assert_close(part, expected[name].detach(), rtol=1e-10, atol=1e-10)
    for (name, mine), theirs in zip(model.named_parameters(), whole.parameters(), strict=True):
        assert mine.grad is not None, name
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-9)


def test_summed_losses_of_micro_batches_would_be_another_gradient() -> None:
    model, (views, labels) = model_without_batch_norm("info_nce"), batch()
    for piece, part in zip(split_views(views, 2), labels.chunk(2), strict=True):
        (sum(model(two(piece), part).values()) / 2).backward()
    naive = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    backward_in_pieces(model, two(views), labels, 2)
    exact = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert max((a - b).abs().max() / b.abs().max() for a, b in zip(naive, exact, strict=True)) > 0.05


def test_views_are_cut_by_image_and_joined_again() -> None:
    rows = torch.arange(12).view(12, 1)  # six images: views i and 6 + i
    pieces = split_views(rows, 3)
    assert [piece.flatten().tolist() for piece in pieces] == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert torch.equal(join_views(pieces), rows)


def test_each_micro_batch_counts_once_in_the_running_statistics() -> None:
    encoder = build_encoder("resnet18", {"stem": "cifar"}, hidden_dim=8, out_dim=8)
    model = single(encoder, "info_nce").train()
    once = copy.deepcopy(model)
    views, labels = torch.randn(8, 3, 8, 8), torch.tensor([0, 1, -1, -1])
    backward_in_pieces(model, two(views), labels, 2)
    with torch.no_grad():
        for piece in split_views(views, 2):
            once.embed(piece)
    for name, buffer in once.named_buffers():
        torch.testing.assert_close(dict(model.named_buffers())[name], buffer, rtol=1e-6, atol=1e-6)


def test_statistics_are_kept_only_within() -> None:
    layer = nn.BatchNorm1d(3)
    with running_statistics_kept(layer):
        layer(torch.randn(4, 3))
    assert layer.num_batches_tracked == 0
    assert torch.equal(layer.running_mean, torch.zeros(3))
    layer(torch.randn(4, 3))
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("pieces", [2, 3])
@pytest.mark.parametrize("name", IN_PIECES)
def test_a_method_in_pieces_is_the_method_over_steps(name: str, pieces: int) -> None:
    """Weights, teacher, queues and banks; encoders in evaluation, so that an embedding depends on its image alone."""
    kind, options = IN_PIECES[name]
    states = []
    for count in (1, pieces):
        method = built(kind, **options)
        for network in (method.encoder, getattr(method, "paired", method.encoder)):
            network.eval()
        optimizer = torch.optim.SGD([p for module in method.trained for p in module.parameters()], lr=0.1)
        found = {}
        for step in range(3):
            optimizer.zero_grad()
            if count == 1:
                parts = method.step(made(step), labels_of(step))
                sum(parts.values()).backward()
            else:
                parts = backward_in_pieces(method, made(step), labels_of(step), count)
            optimizer.step()
            method.after_step((step + 1) / 3)
            found |= {f"{key} at {step}": part.detach() for key, part in parts.items()}
        states.append(found | method.state_dict() | {"latest": method.latest_embeddings})
    torch.testing.assert_close(states[1], states[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_every_method_takes_micro_batches_or_refuses_them(name: str, tiny_options: list[str]) -> None:
    small = ["METHOD.DENSE.QUEUE", "8", "METHOD.MOCO_V2.QUEUE", "8", "METHOD.DINO.PROTOTYPES", "8"]
    cfg = read_options(*tiny_options, *small, "METHOD.NAME", name, "SOLVER.ACCUMULATE", "2")
    if name in IN_PIECES:
        assert isinstance(build_method(cfg, 3, torch.device("cpu")), EmbeddingMethod)
    else:
        with pytest.raises(UserError, match=f"SOLVER.ACCUMULATE is 2, but the method {name} has no micro-batches: "):
            build_method(cfg, 3, torch.device("cpu"))
