"""RoIAlign as two matrix products a box, for small feature maps.

RoIAlign averages bilinear samples on a regular grid inside each bin. Bilinear weights are products of a weight in y and
one in x, and so is the grid; hence the pooled box is A_y F A_x^T, with one small matrix a box and axis. All boxes of an
image share F, so the y step is one matrix product an image, and the gradient with respect to F is its transpose, which
sums over boxes in a fixed order. torchvision's CPU kernel adds up that gradient in one thread, element by element, and
its CUDA kernel in no fixed order.

The cost grows with the area of the map instead of the box, so this pays for maps of up to about 64 x 64.
Source: He et al. 2017, "Mask R-CNN", section 3; the sampling rules are those of torchvision.ops.roi_align.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.layers import ROIAlign
from torch import Tensor, nn

MAX_CELLS = 64 * 64


def bin_weights(low: Tensor, high: Tensor, bins: int, cells: int, sampling: int, aligned: bool) -> Tensor:
    """Weights (R, bins, cells) of a map's cells in each bin, along one axis.

    Args:
        low: start of the R boxes along the axis, in cells; with `aligned`, already shifted by half a cell.
        high: their ends.
        bins: output size along the axis.
        cells: size of the map along the axis.
        sampling: samples a bin; 0 = the length of a bin in cells, rounded up.
        aligned: without it, boxes are at least one cell long (the legacy rule).
    """
    length = high - low if aligned else (high - low).clamp(min=1.0)
    size = length / bins
    count = torch.full_like(low, sampling) if sampling > 0 else torch.ceil(size)
    most = int(count.max().clamp(min=1).item())
    step = torch.arange(most, device=low.device)
    used = step < count[:, None]
    # A box turned inside out has no samples; the divisor must not be zero all the same.
    count = count.clamp(min=1)[:, None]
    within = torch.arange(bins, device=low.device)[None, :, None] + ((step + 0.5) / count)[:, None, :]
    position = low[:, None, None] + within * size[:, None, None]
    used = used[:, None, :] & (position >= -1) & (position <= cells)
    position = position.clamp(0, cells - 1)[..., None]
    weights = (1 - (position - torch.arange(cells, device=low.device)).abs()).clamp(min=0)
    return (weights * used[..., None]).sum(2) / count[..., None]


class _Pool(torch.autograd.Function):
    """(features (N, H, W, C), A_y (R, P, H), A_x (R, Q, W), boxes an image) -> pooled (R, P, Q, C)."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: Tensor, columns: Tensor, counts: Sequence[int]) -> Tensor:
        ctx.save_for_backward(rows, columns)
        ctx.counts, ctx.shape = counts, features.shape
        n, height, width, channels = features.shape
        flat = features.reshape(n, height, width * channels)
        (boxes, high, _), wide = rows.shape, columns.shape[1]
        output = features.new_empty(boxes, high, wide, channels)
        start = 0
        for image, count in enumerate(counts):
            part = slice(start, start + count)
            partial = (rows[part].reshape(count * high, height) @ flat[image]).view(count, high, width, channels)
            torch.matmul(columns[part, None], partial, out=output[part])
            start += count
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        rows, columns = ctx.saved_tensors
        n, height, width, channels = ctx.shape
        high = rows.shape[1]
        output = gradient.new_empty(n, height, width * channels)
        start = 0
        for image, count in enumerate(ctx.counts):
            part = slice(start, start + count)
            partial = torch.matmul(columns[part, None].transpose(2, 3), gradient[part])
            partial = partial.reshape(count * high, width * channels)
            torch.matmul(rows[part].reshape(count * high, height).t(), partial, out=output[image])
            start += count
        return output.view(ctx.shape), None, None, None


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """What `torchvision.ops.roi_align` computes, in the dtype of `features`; differentiable with respect to them.

    Args:
        features: (N, C, H, W).
        rois: (R, 5) image index and x1, y1, x2, y2 in image pixels.
        output_size: bins (P, Q) in y and x.
        spatial_scale: cells a pixel.
        sampling_ratio: samples a bin and axis; 0 = adaptive.
        aligned: torchvision's half-pixel shift.

    Returns:
        (R, C, P, Q), channels last in memory.
    """
    height, width = features.shape[2:]
    if len(rois) == 0:
        return features.new_zeros(0, features.shape[1], *output_size) + 0 * features.sum()
    owner = rois[:, 0].long()
    order = torch.argsort(owner, stable=True)
    boxes = rois[order, 1:].float() * spatial_scale - (0.5 if aligned else 0.0)
    rows = bin_weights(boxes[:, 1], boxes[:, 3], output_size[0], height, sampling_ratio, aligned)
    columns = bin_weights(boxes[:, 0], boxes[:, 2], output_size[1], width, sampling_ratio, aligned)
    counts = torch.bincount(owner, minlength=len(features)).tolist()
    with torch.autocast(features.device.type, enabled=False):
        pooled = _Pool.apply(
            features.permute(0, 2, 3, 1).contiguous(), rows.to(features.dtype), columns.to(features.dtype), counts
        )
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order), device=order.device)
    return pooled[inverse].permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class SmallMapROIAlign(ROIAlign):
    """Detectron2's ROIAlign that uses matrix products where the map is small, torchvision's kernel elsewhere."""

    max_cells: float = MAX_CELLS

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        if input.shape[2] * input.shape[3] > self.max_cells:
            return super().forward(input, rois)  # type: ignore[no-any-return]
        return roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)


def use_small_map_roi_align(model: nn.Module, any_size: bool = False) -> int:
    """Exchange every ROIAlign inside `model`, in place, and on request for large maps too; returns how many there were.

    The gradient is then summed in a fixed order on every device, at the price of time and memory for large maps.
    """
    found = [module for module in model.modules() if type(module) is ROIAlign]
    for module in found:
        module.__class__ = SmallMapROIAlign
        if any_size:
            module.max_cells = math.inf  # type: ignore[assignment]
    return len(found)
