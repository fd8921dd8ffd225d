"""Convolutions over maps of a few pixels: equal to nn.Conv2d in value, gradient and second derivative."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from clop_det.backbones import build_backbone
from clop_det.backbones.small_maps import MOST_PIXELS, SmallMapConv2d, use_small_map_convolutions

SIZES = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 3), (4, 1), (2, 3), (4, 4), (5, 4)]


def pair(stride: int, channels: int = 3, outputs: int = 5) -> tuple[nn.Conv2d, SmallMapConv2d]:
    torch.manual_seed(0)
    plain = nn.Conv2d(channels, outputs, 3, stride, padding=1, bias=False).double()
    network = nn.Sequential(copy.deepcopy(plain))
    use_small_map_convolutions(network)
    (short,) = network
    assert isinstance(short, SmallMapConv2d)
    return plain, short


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_value_and_gradients_are_the_convolutions(
    size: tuple[int, int], stride: int, layout: torch.memory_format
) -> None:
    plain, short = pair(stride)
    plain, short = plain.to(memory_format=layout), short.to(memory_format=layout)
    images = torch.randn(4, 3, *size, dtype=torch.float64).contiguous(memory_format=layout)
    results = []
    for conv in (plain, short):
        x = images.clone().requires_grad_()
        out = conv(x)
        out.pow(3).sum().backward()
        results.append((out, x.grad, conv.weight.grad))
    for mine, reference in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("size", "stride"), [((1, 1), 1), ((2, 2), 1), ((2, 2), 2), ((1, 3), 1), ((4, 3), 2)])
def test_derivatives_of_both_orders_are_those_of_differences(size: tuple[int, int], stride: int) -> None:
    _, short = pair(stride, channels=2, outputs=2)
    x = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)

    def of_kernel(kernel: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(short, {"weight": kernel}, (x,))

    kernel = short.weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(of_kernel, (kernel, x))
    assert torch.autograd.gradgradcheck(of_kernel, (kernel, x))


def test_the_short_way_is_taken_on_small_maps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    _, short = pair(1)
    taken = []
    monkeypatch.setattr(functional, "conv2d", lambda x, *_, **__: taken.append(x.shape[-2:]) or x)
    for size in SIZES:
        short(torch.randn(1, 3, *size, dtype=torch.float64))
    assert [tuple(size) for size in taken] == [size for size in SIZES if size[0] * size[1] > MOST_PIXELS]


@pytest.mark.parametrize("stride", [1, 2])
def test_under_autocast_only_the_rounding_of_bf16_is_lost(stride: int) -> None:
    plain, short = pair(stride, channels=64, outputs=32)
    short = short.float()
    x = torch.randn(16, 64, 2, 2).bfloat16().float().requires_grad_()
    short.weight.data = short.weight.data.bfloat16().float()  # rounding what goes in loses nothing
    plain.weight.data = short.weight.data.double()
    exact_x = x.detach().double().requires_grad_()
    exact = plain(exact_x)
    with torch.autocast("cpu", torch.bfloat16):
        out = short(x)
    assert out.dtype == torch.bfloat16
    weights = torch.randn(exact.shape).bfloat16()
    (out * weights).sum().backward()
    (exact * weights.double()).sum().backward()
    for mine, reference in ((out, exact), (x.grad, exact_x.grad), (short.weight.grad, plain.weight.grad)):
        error = (mine.double() - reference).norm() / reference.norm()
        assert error < 2**-8
    assert short.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_a_network_computes_what_torchvisions_does_under_the_same_names(arch: str) -> None:
    backbone = build_backbone(arch).double().train()
    reference = getattr(torchvision.models, arch)(weights=None)
    reference.fc = nn.Identity()
    reference = reference.double().train()
    reference.load_state_dict(backbone.state_dict())
    # A few images of 64 px: the last stage has maps of 2x2 pixels, and batch statistics stay well conditioned.
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    results = []
    for network in (backbone, reference):
        features = network(x)
        features.square().sum().backward()
        results.append((features, {name: p.grad for name, p in network.named_parameters()}))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-9, atol=1e-9)
    assert results[0][1].keys() == results[1][1].keys()
    for name, gradient in results[0][1].items():
        scale = float(results[1][1][name].abs().max())
        torch.testing.assert_close(gradient, results[1][1][name], rtol=0, atol=1e-8 * scale, msg=name)


def test_grouped_dilated_biased_and_other_kernels_stay_as_they_are() -> None:
    others = [
        nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, bias=False),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 1, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, stride=(1, 2), bias=False),
    ]
    network = nn.Sequential(*others)
    use_small_map_convolutions(network)
    assert list(network) == others
