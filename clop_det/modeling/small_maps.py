"""3x3 convolutions over maps of a few pixels as one matrix product.

On a map of one pixel only the middle tap of a 3x3 kernel meets the image, on one of 2x2 each output sees four of nine
taps. PyTorch's convolution on processors multiplies the padding all the same, and its gradient of the weights is slow
there: three convolutions over single pixels take most of a training step of ResNet-18 at 32 px. Such maps are the last
stages of a residual network on images of 32 or 64 pixels. The product holds the taps that count and no others; its
result is the convolution's, up to the order of the sums (`benchmarks/pretrain.py` times the two).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

MOST_PIXELS = 4  # of the input map; beyond, the products with zeros outweigh what is saved


class SmallMapConv2d(nn.Conv2d):
    """A 3x3 convolution with padding 1 and no bias that takes the short way over maps of at most four pixels.

    Parameters, names and results are `nn.Conv2d`'s. Only on a CPU and in full precision: elsewhere other kernels run,
    and the short way was not measured against them.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N,C,H,W) -> (N,O,H',W')."""
        return _convolve(x, self.weight, self.stride[0])


@torch.fx.wrap  # one node to a symbolic tracer, as nn.Conv2d is: which way to take depends on the shape
def _convolve(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    height, width = x.shape[-2:]
    measured = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    if not measured or height * width > MOST_PIXELS:
        return functional.conv2d(x, kernel, stride=stride, padding=1)
    matrix = _Spread.apply(kernel, (height, width), stride)
    out = functional.linear(x.permute(0, 2, 3, 1).reshape(len(x), -1), matrix)
    out_height, out_width = (height - 1) // stride + 1, (width - 1) // stride + 1
    return out.view(len(x), out_height, out_width, len(kernel)).permute(0, 3, 1, 2)


def use_small_map_convolutions(network: nn.Module) -> None:
    """Put `SmallMapConv2d` in the place of every convolution of `network` that it can stand for; weights are kept."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Conv2d) and _replaceable(child):
                setattr(module, name, _small_map(child))


def _replaceable(module: nn.Conv2d) -> bool:
    return (
        type(module) is nn.Conv2d
        and module.kernel_size == (3, 3)
        and module.padding == (1, 1)
        and module.dilation == (1, 1)
        and module.stride[0] == module.stride[1]
        and module.groups == 1
        and module.bias is None
    )


def _small_map(conv: nn.Conv2d) -> SmallMapConv2d:
    with torch.device("meta"):
        twin = SmallMapConv2d(conv.in_channels, conv.out_channels, 3, conv.stride[0], padding=1, bias=False)
    twin.weight = conv.weight
    return twin.train(conv.training)


def _meetings(size: tuple[int, int], stride: int) -> list[tuple[slice, slice, slice, slice]]:
    """For each output pixel the rows and columns of the map that it sees, and those of the kernel that meet them."""

    def along(length: int) -> list[tuple[slice, slice]]:
        found = []
        for out in range((length - 1) // stride + 1):
            start = out * stride - 1
            first, last = max(0, start), min(length, start + 3)
            found.append((slice(first, last), slice(first - start, last - start)))
        return found

    return [(rows, cols, down, across) for rows, down in along(size[0]) for cols, across in along(size[1])]


class _Spread(torch.autograd.Function):
    """Kernel (O,C,3,3) -> the matrix (H'W'O, HWC) of the convolution over maps of H x W pixels; a linear map."""

    @staticmethod
    def forward(ctx: Any, kernel: Tensor, size: tuple[int, int], stride: int) -> Tensor:
        ctx.size, ctx.stride, ctx.channels = size, stride, kernel.shape[:2]
        meetings = _meetings(size, stride)
        taps = kernel.permute(0, 2, 3, 1)
        blocks = kernel.new_zeros(len(meetings), len(kernel), *size, kernel.shape[1])
        for block, (rows, cols, down, across) in zip(blocks, meetings, strict=True):
            block[:, rows, cols] = taps[:, down, across]
        return blocks.view(len(meetings) * len(kernel), -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _Gather.apply(gradient, ctx.size, ctx.stride, ctx.channels), None, None


class _Gather(torch.autograd.Function):
    """The adjoint of `_Spread`: the matrix's entries summed over the places where each tap stands."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, size: tuple[int, int], stride: int, channels: tuple[int, int]) -> Tensor:
        ctx.size, ctx.stride = size, stride
        meetings = _meetings(size, stride)
        taps = matrix.new_zeros(channels[0], 3, 3, channels[1])
        blocks = matrix.reshape(len(meetings), channels[0], *size, channels[1])
        for block, (rows, cols, down, across) in zip(blocks, meetings, strict=True):
            taps[:, down, across] += block[:, rows, cols]
        return taps.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        return _Spread.apply(gradient, ctx.size, ctx.stride), None, None, None
