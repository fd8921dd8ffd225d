"""A detector's convolutions while their weights stand still: normalisation folded in, small maps taken the short way.

Probes encode images of one pixel or four on the last maps, where PyTorch's convolution on processors multiplies mostly
padding (`small_maps`), and a normalisation in evaluation mode is a scale and a shift of a convolution's kernel. Both
change the order of the sums and nothing else (Jacob et al. 2018, arXiv 1712.05877, section 3.2, for the folding).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from clop_det.backbones.small_maps import cut_taps, goes_short, has_short_way, through_taps


@contextmanager
def folded(network: nn.Module) -> Iterator[None]:
    """Within it the Detectron2 convolutions of `network` run folded, on a processor and without gradients.

    The network must be in evaluation mode, and its weights must not change in between. Elsewhere than on a processor
    nothing changes: other kernels run there, and this was not measured against them.
    """
    convolutions = [
        module for module in network.modules() if type(module) is Conv2d and module.weight.device.type == "cpu"
    ]
    for module in convolutions:
        module.forward = _Folded(module)
    try:
        yield
    finally:
        for module in convolutions:
            del module.forward  # the class's own again


class _Folded:
    """The forward pass of one convolution: what it multiplies with is computed once, taps once for each size of map."""

    def __init__(self, conv: Conv2d) -> None:
        self._conv = conv
        self._short = has_short_way(conv)
        self._taps: dict[tuple[int, ...], list[Tensor]] = {}

    @cached_property
    def _scale_and_shift(self) -> tuple[Tensor | None, Tensor | None]:
        """Of the convolution's channels, by the normalisation."""
        norm, bias = self._conv.norm, self._conv.bias
        if not _is_fixed(norm):
            return None, bias
        scale = norm.weight.detach() * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias.detach() + ((0 if bias is None else bias.detach()) - norm.running_mean) * scale
        return scale, shift.to(self._kind)

    @property
    def _kind(self) -> torch.dtype:
        """The type in which autocast computes."""
        return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self._conv.weight.dtype

    @cached_property
    def _kernel(self) -> Tensor:
        """Scaled. Maps that go the short way do without: a single pixel meets a ninth of it."""
        scale = self._scale_and_shift[0]
        kernel: Tensor = self._conv.weight.detach()
        kernel = kernel if scale is None else kernel * scale[:, None, None, None]
        return kernel.to(self._kind, memory_format=torch.channels_last)

    def _taps_for(self, size: tuple[int, ...]) -> list[Tensor]:
        if size not in self._taps:
            scale, kernel = self._scale_and_shift[0], self._conv.weight.detach()
            taps = cut_taps(kernel, size, self._conv.stride[0], kernel.dtype)
            self._taps[size] = [(own if scale is None else own.mul_(scale[:, None])).to(self._kind) for own in taps]
        return self._taps[size]

    def __call__(self, x: Tensor) -> Tensor:
        conv, shift = self._conv, self._scale_and_shift[1]
        size = tuple(x.shape[-2:])
        if self._short and goes_short(size, conv.stride[0]):
            x = through_taps(x, self._taps_for(size), conv.stride[0], shift)
        else:
            x = functional.conv2d(x, self._kernel, shift, conv.stride, conv.padding, conv.dilation, conv.groups)
        if conv.norm is not None and not _is_fixed(conv.norm):
            x = conv.norm(x)
        return x if conv.activation is None else conv.activation(x)


def _is_fixed(norm: nn.Module | None) -> bool:
    if isinstance(norm, FrozenBatchNorm2d):
        return True
    return isinstance(norm, _BatchNorm) and not norm.training and norm.affine and norm.running_mean is not None
