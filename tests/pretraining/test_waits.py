"""What a step waits for: once for its device, to learn whether it was finite; held without a GPU.

Two ways. On the CPU a dispatch mode counts the operations that would make the host wait for a GPU. And fake tensors
that say that they are on "cuda" have no values, so whoever asks for one, or mixes devices, gets an error.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode

from clop_det.config.reading import read_config
from clop_det.data.augment import AugmentSettings, ViewAugmentation
from clop_det.data.view_parameters import draw_parameters
from clop_det.losses import Loss
from clop_det.losses.batch import values_checked_later
from clop_det.losses.pulls import SCORE_PULLS
from clop_det.methods.encoder import build_encoder
from clop_det.pretraining.build import build_method
from clop_det.pretraining.data import BatchSource, open_data
from clop_det.pretraining.nonfinite import NonFiniteGuard
from clop_det.pretraining.optimizers import build_optimizer
from clop_det.pretraining.step import PretrainStep
from tests.losses.helpers import ASKING, every_loss

from .conftest import BASE_CONFIG

WAITING = {
    *("_local_scalar_dense", "is_nonzero", "equal", "nonzero", "nonzero_static", "masked_select"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "bincount"),
}

ROOT = Path(__file__).resolve().parents[2]
ASKING_PULLS = {f"pull {name}" for name in SCORE_PULLS}


class Waits(TorchDispatchMode):
    """Names of the operations inside that would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name.startswith("index") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool
            for group in args
            if isinstance(group, (list, tuple))
            for index in group
        )
        if name in WAITING or masks:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_the_counter_sees_what_waits() -> None:
    rows = torch.arange(4.0)
    with Waits() as waits:
        assert float(rows.sum()) == 6
        assert len(rows[rows > 1]) == 2
        torch.unique(rows)
        torch.bincount(rows.long())
        rows.nonzero()
    assert len(waits.found) == 5


def step_of(options: list[str], *more: str) -> PretrainStep:
    cfg = read_config(BASE_CONFIG, [*options, *more])
    data = open_data(cfg)
    device = torch.device("cpu")
    method = build_method(cfg, len(data.train.classes), device)
    method.train()
    batches = BatchSource(cfg, data)
    guard = NonFiniteGuard(cfg, data, method)
    optimizer = build_optimizer(cfg, torch.nn.ModuleList(method.trained))
    # The CPU's augmentation looks which views are blurred; the one of GPUs is tested below.
    ready = [batches(i) for i in range(2)]
    return PretrainStep(cfg, method, method, optimizer, ready.__getitem__, guard)


@pytest.mark.parametrize("loss", ["info_nce", "supcon", "clop", "cross_entropy", "vicreg"])
@pytest.mark.parametrize(
    "more", [(), ("SOLVER.OPTIMIZER", "LARS", "SOLVER.MAX_SKIPPED", "2"), ("SOLVER.ACCUMULATE", "2")]
)
def test_a_step_waits_once(loss: str, more: tuple[str, ...], tiny_options: list[str]) -> None:
    step = step_of(tiny_options, "LOSS.NAME", loss, "PROBE.ENABLED", "False", *more)
    with Waits() as waits:
        assert step(0) is not None
        assert step(1) is not None
    assert waits.found == ["_local_scalar_dense"] * 2


@pytest.mark.parametrize(
    "name", [name for name in sorted(every_loss(4, 8)) if name.split(" over ")[-1] not in ASKING | ASKING_PULLS]
)
def test_losses_ask_a_gpu_for_no_value(name: str) -> None:
    loss = every_loss(4, 8)[name].float()
    with FakeTensorMode() as mode, values_checked_later() as checks:
        value = _called(loss, mode)
        assert value.device.type == "cuda"
        assert [flag.device.type for flag in checks.finite] == ["cuda"]
        with pytest.raises(DataDependentOutputException):
            bool(checks.finite[0])


@pytest.mark.parametrize("name", sorted(ASKING | ASKING_PULLS))
def test_the_losses_that_ask_a_gpu_are_those_that_the_docs_name(name: str) -> None:
    loss, asks = every_loss(4, 8)[name].float(), (DataDependentOutputException, DynamicOutputShapeException)
    with FakeTensorMode() as mode, values_checked_later(), pytest.raises(asks):
        _called(loss, mode)
    assert f"`{name.removeprefix('pull ')}`" in (ROOT / "docs" / "pretraining.md").read_text()


def _called(loss: Loss, mode: FakeTensorMode) -> Tensor:
    # Forward alone: autograd's engine asks for a real device.
    embeddings = torch.empty(2 * 6, 8, device="cuda", requires_grad=True)
    value: Tensor = _faked(loss, mode)(embeddings, torch.empty(6, dtype=torch.int64, device="cuda"))
    return value


def test_augmentation_and_encoder_ask_a_gpu_for_no_value() -> None:
    settings = AugmentSettings(blur_prob=0.5, solarize_prob=0.2)
    parameters = draw_parameters(settings, 6, torch.Generator().manual_seed(0)).values
    encoder = build_encoder("resnet18", {}, 16, 8)
    with FakeTensorMode() as mode:
        augment = ViewAugmentation(settings, 32, [120] * 3, [60] * 3)
        fake = type(draw_parameters(settings, 1, torch.Generator()))(mode.from_tensor(parameters).to("cuda"))
        views = augment.apply(torch.empty(6, 3, 40, 40, dtype=torch.uint8, device="cuda"), fake)
        assert (views.shape, views.device.type) == ((12, 3, 32, 32), "cuda")
        features, embeddings = _faked(encoder, mode)(views)
        assert (features.device.type, embeddings.device.type) == ("cuda", "cuda")


def _faked(module: torch.nn.Module, mode: FakeTensorMode) -> torch.nn.Module:
    """`module` with parameters and buffers that have no values and say that they are on "cuda"."""
    for inner in module.modules():
        for name, parameter in inner._parameters.items():
            if parameter is not None:
                moved = mode.from_tensor(parameter).detach().to("cuda")
                inner._parameters[name] = torch.nn.Parameter(moved, parameter.requires_grad)
        for name, buffer in inner._buffers.items():
            if buffer is not None:
                inner._buffers[name] = mode.from_tensor(buffer).to("cuda")
    return module
