"""Pictures of a run for TensorBoard: what the encoder sees, and how many directions its features use."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import make_grid

_SHOWN = 8  # images
_SMALLEST = 96  # pixels: smaller views are enlarged, pixel by pixel


def view_grid(views: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The first images of a batch, the views of an image one above the other.

    Args:
        views: (V,n,3,S,S) normalised.
        mean: (1,3,1,1), 0..255.
        std: likewise.

    Returns:
        (3,H,W) uint8.
    """
    shown = views.detach()[:, :_SHOWN]
    pixels = (shown.flatten(0, 1) * std + mean).round().clamp(0, 255).to(torch.uint8).cpu()
    factor = max(1, _SMALLEST // pixels.shape[-1])
    pixels = pixels.repeat_interleave(factor, dim=2).repeat_interleave(factor, dim=3)
    grid: Tensor = make_grid(pixels, nrow=shown.shape[1], padding=2, pad_value=255)
    return grid


def spectrum_picture(values: list[float], iteration: int) -> Tensor:
    """The singular values, largest first, as shares of their sum on a logarithmic axis: (3,H,W) uint8."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: no start waits for matplotlib

    from clop_det.collapse.style import BLUE, new_figure, tidy

    figure = new_figure(5, 3.2)
    axes = figure.add_subplot()
    total = sum(values) or 1.0
    axes.semilogy(range(1, len(values) + 1), [max(value / total, 1e-12) for value in values], color=BLUE)
    axes.set(xlabel="singular value", ylabel="share of the sum", ylim=(1e-8, 1.5))
    axes.set_title(f"features after {iteration} iterations", fontsize=10)
    tidy(axes)
    figure.set_layout_engine("tight")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
