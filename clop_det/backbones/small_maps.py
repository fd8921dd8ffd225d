"""3x3 convolutions with an output of a few pixels as matrix products, one for each pixel.

On a map of one pixel only the middle tap of a 3x3 kernel meets the image, on one of 2x2 each output sees four of nine
taps. PyTorch's convolution on processors multiplies the padding all the same, and its gradient of the weights is slow
there: three convolutions over single pixels take most of a training step of ResNet-18 at 32 px. Such maps are the last
stages of a residual network on images of 32 or 64 pixels. The products hold the taps that count and no others; the
result is the convolution's, up to the order of the sums (`benchmarks/pretrain.py` times the two).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

MOST_PIXELS = 4  # of the output; with more, copies of the kernel's taps outweigh what is saved


class SmallMapConv2d(nn.Conv2d):
    """A 3x3 convolution with padding 1 and no bias that takes the short way to an output of at most four pixels.

    Parameters, names and results are `nn.Conv2d`'s. Only on a CPU: elsewhere other kernels run, and the short way was
    not measured against them. Under autocast the products are computed in its type, and the gradient of the kernel is
    summed in the kernel's own.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N,C,H,W) -> (N,O,H',W')."""
        return _convolve(x, self.weight, self.stride[0])


@torch.fx.wrap  # one node to a symbolic tracer, as nn.Conv2d is: which way to take depends on the shape
def _convolve(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    if x.device.type != "cpu" or not goes_short(x.shape[-2:], stride):
        return functional.conv2d(x, kernel, stride=stride, padding=1)
    kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else kernel.dtype
    return through_taps(x, cut_taps(kernel, x.shape[-2:], stride, kind), stride)


def goes_short(size: Sequence[int], stride: int) -> bool:
    """Whether the output of a map of `size` (H, W) is small enough."""
    height, width = _output_size(size, stride)
    return height * width <= MOST_PIXELS


def cut_taps(kernel: Tensor, size: Sequence[int], stride: int, kind: torch.dtype) -> tuple[Tensor, ...]:
    """For each pixel of the output of a map of `size` (H,W) the taps of a kernel (O,C,3,3) that count: (O, taps*C)."""
    taps: tuple[Tensor, ...] = _Taps.apply(kernel, _meetings(size, stride), kind)
    return taps


def through_taps(x: Tensor, taps: Sequence[Tensor], stride: int, shift: Tensor | None = None) -> Tensor:
    """The convolution of maps (N,C,H,W) with the taps that `cut_taps` gives for their size, plus `shift` (O,)."""
    pixels = x.permute(0, 2, 3, 1)
    outputs = [
        functional.linear(pixels[:, rows, columns].flatten(1), own, shift)
        for (rows, columns, *_), own in zip(_meetings(x.shape[-2:], stride), taps, strict=True)
    ]
    return torch.stack(outputs, 1).view(len(x), *_output_size(x.shape[-2:], stride), -1).permute(0, 3, 1, 2)


def _output_size(size: Sequence[int], stride: int) -> tuple[int, int]:
    return (size[0] - 1) // stride + 1, (size[1] - 1) // stride + 1


def use_small_map_convolutions(network: nn.Module) -> None:
    """Put `SmallMapConv2d` in the place of every convolution of `network` that it can stand for; weights are kept."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Conv2d and child.bias is None and has_short_way(child):
                setattr(module, name, _small_map(child))


def has_short_way(conv: nn.Conv2d) -> bool:
    """Whether products can stand for a convolution: 3x3, padding 1, equal strides, no dilation, one group."""
    return (
        conv.kernel_size == (3, 3)
        and conv.padding == (1, 1)
        and conv.dilation == (1, 1)
        and conv.stride[0] == conv.stride[1]
        and conv.groups == 1
    )


def _small_map(conv: nn.Conv2d) -> SmallMapConv2d:
    with torch.device("meta"):
        twin = SmallMapConv2d(conv.in_channels, conv.out_channels, 3, conv.stride[0], padding=1, bias=False)
    twin.weight = conv.weight
    return twin.train(conv.training)


Meeting = tuple[slice, slice, slice, slice]


def _meetings(size: Sequence[int], stride: int) -> list[Meeting]:
    """For each output pixel the rows and columns of the map that it sees, and those of the kernel that meet them."""

    def along(length: int) -> list[tuple[slice, slice]]:
        found = []
        for out in range((length - 1) // stride + 1):
            start = out * stride - 1
            first, last = max(0, start), min(length, start + 3)
            found.append((slice(first, last), slice(first - start, last - start)))
        return found

    return [(rows, columns, down, across) for rows, down in along(size[0]) for columns, across in along(size[1])]


class _Taps(torch.autograd.Function):
    """Kernel (O,C,3,3) -> for each meeting its taps, (O, taps*C), of the type `kind`; but for that a linear map."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, meetings: list[Meeting], kind: torch.dtype) -> tuple[Tensor, ...]:
        ctx.meetings, ctx.channels, ctx.kinds = meetings, kernel.shape[:2], (kernel.dtype, kind)
        # Where several pixels meet a tap it is rounded once; a single pixel meets few of them.
        taps = (kernel if len(meetings) == 1 else kernel.to(kind)).permute(0, 2, 3, 1)
        return tuple(
            taps[:, down, across].to(kind, copy=True, memory_format=torch.contiguous_format).flatten(1)
            for _, _, down, across in meetings
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Kernel.apply(ctx.meetings, ctx.channels, ctx.kinds, *gradients), None, None


class _Kernel(torch.autograd.Function):
    """The adjoint of `_Taps`: each tap of the kernel is the sum over the meetings that it is part of."""

    @staticmethod
    def forward(
        ctx: Any,
        meetings: list[Meeting],
        channels: tuple[int, int],
        kinds: tuple[torch.dtype, torch.dtype],
        *parts: Tensor,
    ) -> Tensor:
        ctx.meetings, ctx.kind = meetings, kinds[1]
        taps = parts[0].new_zeros(channels[0], 3, 3, channels[1], dtype=kinds[0])
        for (_, _, down, across), part in zip(meetings, parts, strict=True):
            seen = taps[:, down, across]
            seen += part.view(seen.shape)
        return taps.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        return None, None, None, *_Taps.apply(gradient, ctx.meetings, ctx.kind)
