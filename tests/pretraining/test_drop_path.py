"""Stochastic depth in pretraining: which network draws, and that a resumed run repeats what was drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from clop_det.backbones import build_backbone
from clop_det.commands.pretrain import main
from clop_det.data.views import Views
from clop_det.errors import UserError
from clop_det.losses import build_loss
from clop_det.methods.base import MethodContext
from clop_det.methods.encoder import Encoder
from clop_det.methods.single import Single
from clop_det.pretraining.accumulation import backward_in_pieces
from clop_det.pretraining.build import build_method
from tests.pretraining.conftest import arguments, crash, read_options, same_files

ARCH, RATE = ("ENCODER.ARCH", "timm:test_convnext"), ("ENCODER.TIMM.DROP_PATH", "0.5")


def rates(network: nn.Module) -> list[float]:
    return [module.drop_prob for module in network.modules() if isinstance(module, DropPath)]


def test_rates_rise_to_that_of_the_last_block_and_are_none_by_default(tiny_options: list[str]) -> None:
    method = build_method(read_options(*tiny_options, *ARCH, *RATE), 3, torch.device("cpu"))
    found = rates(method.encoder)
    assert found == sorted(found)
    assert found[-1] == 0.5
    assert not rates(build_method(read_options(*tiny_options, *ARCH), 3, torch.device("cpu")).encoder)


@pytest.mark.parametrize("probed", ["student", "teacher"])
def test_a_momentum_teacher_draws_nothing(tiny_options: list[str], probed: str) -> None:
    options = [*tiny_options, *ARCH, *RATE, "METHOD.NAME", "byol", "METHOD.BYOL.PROBED", probed]
    method = build_method(read_options(*options), 3, torch.device("cpu"))
    assert max(rates(method.student)) == 0.5  # type: ignore[operator,arg-type]
    assert not any(rates(method.teacher))  # type: ignore[operator,arg-type]


@pytest.mark.parametrize("pieces", ["1", "2"])
def test_a_resumed_run_repeats_what_was_drawn(tmp_path: Path, tiny_options: list[str], pieces: str) -> None:
    options = [*tiny_options, *ARCH, *RATE, "SOLVER.ACCUMULATE", pieces, "PROBE.ENABLED", "False"]
    options += ["TEST.EVAL_PERIOD", "0", "SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2"]
    assert main(arguments(tmp_path / "whole", options)) == 0
    crash(tmp_path / "run", options, 3)
    torch.rand(7)  # something else that draws in between
    assert main(arguments(tmp_path / "run", options, "--resume")) == 0
    same_files(tmp_path / "whole", tmp_path / "run")


def test_a_micro_batch_is_embedded_twice_with_the_same_draws() -> None:
    torch.manual_seed(0)
    encoder = Encoder(nn.Sequential(nn.Flatten(), nn.Dropout(0.5)), nn.Linear(12, 8), 12, 8)  # type: ignore[arg-type]
    seen: list[Tensor] = []
    encoder.register_forward_hook(lambda _, __, out: seen.append(out[1].detach()))
    method = Single(MethodContext(encoder, lambda: build_loss("info_nce", {}, 3, 8), 3, [0.0] * 3, [1.0] * 3)).train()
    views = Views(torch.randn(2, 4, 3, 2, 2), torch.empty(0), torch.empty(0), ("standard", "standard"))
    backward_in_pieces(method, views, torch.full((4,), -1), 2, seed=torch.manual_seed)
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])


def test_a_network_without_stochastic_depth_is_refused() -> None:
    with pytest.raises(UserError, match=r"cannot build vgg11 with drop_path_rate 0.1"):
        build_backbone("timm:vgg11", drop_path=0.1)
