"""Folded convolutions: equal to Detectron2's in value, and gone without a trace afterwards."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import Conv2d, get_norm
from detectron2.modeling import build_backbone
from torch import Tensor, nn
from torch.nn import functional

from clop_det.backbones.batch_norm import stir_batch_norm
from clop_det.backbones.detectors import fpn_config
from clop_det.backbones.folded import folded
from clop_det.backbones.small_maps import MOST_PIXELS


def network(norm: str, depth: int) -> nn.Module:
    cfg = fpn_config("build_resnet_fpn_backbone")
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.NORM = depth, "BN" if norm == "FrozenBN" else norm
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 256 if depth == 50 else 64
    torch.manual_seed(0)
    built: nn.Module = build_backbone(cfg).bottom_up
    stir_batch_norm(built, torch.Generator().manual_seed(1))
    if norm == "FrozenBN":
        built.freeze(5)
    return built.double().eval()


def maps(built: nn.Module, images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        found: dict[str, Tensor] = built(images)
    return found


@pytest.mark.parametrize("side", [32, 64, 80])
@pytest.mark.parametrize(("norm", "depth"), [("BN", 18), ("FrozenBN", 18), ("GN", 18), ("BN", 50), ("FrozenBN", 50)])
def test_every_stage_is_detectron2s(norm: str, depth: int, side: int) -> None:
    built = network(norm, depth)
    images = torch.randn(3, 3, side, side, dtype=torch.float64)
    expected = maps(built, images)
    with folded(built):
        found = maps(built, images)
        again = maps(built, images)
    for stage, reference in expected.items():
        torch.testing.assert_close(found[stage], reference, rtol=1e-9, atol=1e-9)
        assert torch.equal(again[stage], found[stage])


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", "GN", "LN", ""])
@pytest.mark.parametrize("bias", [True, False])
def test_one_convolution_with_its_norm_and_activation(norm: str, bias: bool) -> None:
    torch.manual_seed(0)
    conv = Conv2d(8, 32, 3, padding=1, bias=bias, norm=get_norm(norm, 32), activation=functional.relu).double().eval()
    for name, tensor in conv.state_dict().items():
        if name.startswith("norm"):
            tensor.copy_(torch.rand_like(tensor, dtype=torch.float64) + 0.5)
    for side in (1, 2, 3):
        x = torch.randn(4, 8, side, side, dtype=torch.float64)
        with torch.no_grad(), folded(conv):
            found = conv(x)
        torch.testing.assert_close(found, conv(x).detach(), rtol=1e-12, atol=1e-12)
        assert (found >= 0).all()


def test_it_leaves_no_trace_and_sees_the_weights_of_its_time() -> None:
    built = network("BN", 18)
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    names = [set(vars(module)) for module in built.modules()]
    with folded(built):
        first = maps(built, images)["res5"]
    assert [set(vars(module)) for module in built.modules()] == names
    with torch.no_grad():
        for parameter in built.parameters():
            parameter *= 1.1
    with pytest.raises(RuntimeError, match="stop"), folded(built):
        second = maps(built, images)["res5"]
        raise RuntimeError("stop")
    assert [set(vars(module)) for module in built.modules()] == names
    assert not torch.allclose(first, second)
    torch.testing.assert_close(second, maps(built, images)["res5"], rtol=1e-9, atol=1e-9)


def test_a_normalisation_in_training_mode_keeps_its_batch_statistics() -> None:
    conv = Conv2d(4, 8, 3, padding=1, norm=get_norm("BN", 8)).train()
    x = torch.randn(8, 4, 6, 6)
    with torch.no_grad(), folded(conv):
        found = conv(x)
    assert int(conv.norm.num_batches_tracked) == 1
    torch.testing.assert_close(found.mean(dim=(0, 2, 3)), torch.zeros(8), rtol=0, atol=1e-5)


def test_in_bf16_only_rounding_differs() -> None:
    built = network("BN", 18).float()
    images = torch.randn(4, 3, 32, 32)
    exact = maps(built, images)["res5"]
    with torch.autocast("cpu", torch.bfloat16):
        plain = maps(built, images)["res5"]
        with folded(built):
            found = maps(built, images)["res5"]
    assert found.dtype == plain.dtype
    errors = [float((result.float() - exact).norm() / exact.norm()) for result in (found, plain)]
    assert errors[0] < 1.5 * errors[1] + 1e-3


def test_only_outputs_of_a_few_pixels_take_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = Conv2d(2, 2, 3, padding=1).eval()
    through = functional.conv2d
    taken: list[int] = []
    monkeypatch.setattr(functional, "conv2d", lambda x, *rest: taken.append(x.shape[-1]) or through(x, *rest))
    with torch.no_grad(), folded(conv):
        for side in (1, 2, 3, 4):
            conv(torch.randn(1, 2, side, side))
    assert taken == [side for side in (1, 2, 3, 4) if side * side > MOST_PIXELS]
