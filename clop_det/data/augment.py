"""Views of every image, augmented as one batch on the images' device, each view with its own parameters.

The chain is SimCLR's (Chen et al. 2020, appendix A): random resized crop, flip, colour jitter, grey, Gaussian blur,
solarisation (BYOL, Grill et al. 2020), normalisation. Parameters are drawn on the CPU for the global batch
(`view_parameters.py`) and sliced by rank, so that a run depends neither on the device nor on the number of processes.

Why it is fast:

* Crop, antialiased resize and flip of one view are two small matrices, one a side; both are applied as batched matrix
  products. The weights are those of torchvision's antialiased bilinear resize of the crop.
* Brightness b, contrast c, saturation s, hue angle h and grey (s = 0) are one affine map of colours. Without clamping
  in between, the four commute, so torchvision's random order is not needed: with luma weights w, L = 1 w^T, P = I - L
  and X the generator of rotations about the grey axis, colour -> bc (L + s (cos h P + sin h P X P / sqrt 3)) colour
  + (1 - c) b mean(luma). Hue turns the same angle as in HSV, but keeps the luma where HSV keeps the largest channel.
* The batch goes through in chunks: on the CPU they stay in the cache, on a GPU they bound the memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from clop_det.data.view_parameters import AugmentSettings, ViewParameters
from clop_det.errors import UserError

__all__ = ["AugmentSettings", "ViewAugmentation", "ViewParameters"]

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as torchvision's rgb_to_grayscale
# Floats of one intermediate result of a chunk: 1 MB on the CPU, which stays in its cache, 256 MB on others.
_CHUNK_VALUES = {"cpu": 1 << 18}
_CHUNK_VALUES_ELSEWHERE = 1 << 26


class ViewAugmentation:
    """Makes views of images, from parameters that `draw_parameters` has drawn.

    Args:
        settings: probabilities and ranges.
        size: side S of the square views in pixels.
        pixel_mean: three means in R, G, B order, on the 0..255 scale.
        pixel_std: three standard deviations, likewise.

    Raises:
        UserError: mean and std are not three numbers, std > 0.
    """

    def __init__(
        self, settings: AugmentSettings, size: int, pixel_mean: Sequence[float], pixel_std: Sequence[float]
    ) -> None:
        if size < 1:
            raise UserError(f"view size is {size}; it must be at least 1 pixel")
        check_pixel_statistics(pixel_mean, pixel_std)
        self.settings = settings
        self.size = size
        self._mean = torch.tensor([float(value) for value in pixel_mean]).view(1, 3, 1, 1)
        self._std = torch.tensor([float(value) for value in pixel_std]).view(1, 3, 1, 1)
        self._basis = _colour_basis()

    def apply_to_crops(self, crops: Tensor, params: ViewParameters) -> Tensor:
        """Turn crops that were cut and resized elsewhere into views: flip, colour, blur, solarisation, normalisation.

        Args:
            crops: (V, n, 3, S, S) uint8, RGB, in any order in memory; first all first views, then all second views, ...
            params: parameters for the same n images, on the same device; their boxes are not looked at.

        Returns:
            views: (V n, 3, S, S) float32, as `apply`.
        """
        expected = (params.views, len(params), 3, self.size, self.size)
        if crops.dtype != torch.uint8 or crops.shape != expected:
            raise ValueError(f"crops must be {expected} uint8, got {tuple(crops.shape)} {crops.dtype}")
        return self._in_chunks(
            crops.unbind(0), params, lambda parts, chosen: _flip(torch.cat(parts).contiguous(), chosen)
        )

    def apply(self, images: Tensor, params: ViewParameters) -> Tensor:
        """Turn images into views.

        Args:
            images: (n, 3, H, W) uint8, RGB.
            params: parameters for the same n images, on the same device (see `ViewParameters.to`).

        Returns:
            views: (V n, 3, S, S) float32, normalised; first all first views, then all second views, ...
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (n, 3, H, W) uint8, got {tuple(images.shape)} {images.dtype}")
        if len(params) != len(images):
            raise ValueError(f"parameters of {len(params)} images given for {len(images)} images")
        return self._in_chunks((images,), params, lambda parts, chosen: _crop_resize_flip(parts[0], chosen, self.size))

    def _in_chunks(
        self,
        images: Sequence[Tensor],
        params: ViewParameters,
        cut: Callable[[list[Tensor], ViewParameters], Tensor],
    ) -> Tensor:
        """Views of `images`, tensors (n, 3, H, W); `cut` makes (V m, 3, S, S) of a chunk of m of them."""
        n, _, height, width = images[0].shape
        device = images[0].device
        self._move_constants(device)
        views = torch.empty((params.views, n, 3, self.size, self.size), device=device)
        values = 3 * params.views * max(height, self.size) * max(width, self.size)  # of one image
        chunk = max(1, _CHUNK_VALUES.get(device.type, _CHUNK_VALUES_ELSEWHERE) // values)
        # Views are data: they stay in fp32 with all their grey levels, whatever the network computes in.
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            for start in range(0, n, chunk):
                part = slice(start, start + chunk)
                views[:, part] = self._finish(cut([tensor[part] for tensor in images], params[part]), params[part])
        return views.flatten(0, 1)

    def _finish(self, views: Tensor, params: ViewParameters) -> Tensor:
        """(V n, 3, S, S) on the 0..255 scale -> (V, n, 3, S, S) normalised."""
        views = _recolour(views, params, self._basis)
        if self.settings.blur_prob > 0:
            _blur_(views, params.blur_sigma.t().reshape(-1))
        if self.settings.solarize_prob > 0:
            inverted = params.solarize.t().reshape(-1, 1, 1, 1) > 0
            views = torch.where(inverted & (views >= 127.5), 255.0 - views, views)
        return views.sub_(self._mean).div_(self._std).view(params.views, len(params), 3, self.size, self.size)

    def _move_constants(self, device: torch.device) -> None:
        if self._mean.device != device:
            self._mean, self._std, self._basis = (x.to(device) for x in (self._mean, self._std, self._basis))


def check_pixel_statistics(pixel_mean: Sequence[float], pixel_std: Sequence[float]) -> None:
    """Refuse a mean or deviation of the pixels (R, G, B; 0..255) that is not three numbers, std > 0; UserError."""
    if len(pixel_mean) != 3 or len(pixel_std) != 3 or min(pixel_std) <= 0:
        raise UserError(
            f"pixel mean {list(pixel_mean)} and std {list(pixel_std)}: each needs three numbers (R, G, B; 0..255),"
            " std > 0"
        )


def _crop_resize_flip(images: Tensor, params: ViewParameters, size: int) -> Tensor:
    """(n, 3, H, W) uint8 -> (V n, 3, S, S) float on the 0..255 scale, first views first."""
    n, _, height, width = images.shape
    left, top, crop_width, crop_height = params.boxes.permute(2, 1, 0).reshape(4, -1)
    columns = _resize_weights(left * width, crop_width * width, width, size)
    mirrored = (params.flip.t().reshape(-1) > 0).view(-1, 1, 1)
    columns = torch.where(mirrored, columns.flip(1), columns)
    rows = _resize_weights(top * height, crop_height * height, height, size)
    # Rows outermost, then channels: both products then run over contiguous matrices, for all three channels at once.
    pixels = images.permute(0, 2, 1, 3).to(torch.float32, memory_format=torch.contiguous_format)
    narrowed = torch.matmul(pixels.view(n, height * 3, width), columns.view(-1, n, size, width).transpose(-1, -2))
    views = torch.matmul(rows.view(-1, n, size, height), narrowed.view(-1, n, height, 3 * size))
    return views.view(-1, size, 3, size).permute(0, 2, 1, 3).contiguous()


def _flip(crops: Tensor, params: ViewParameters) -> Tensor:
    """(V n, 3, S, S) uint8 -> the same as float, mirrored where the parameters say so."""
    mirrored = (params.flip.t().reshape(-1) > 0).view(-1, 1, 1, 1)
    return torch.where(mirrored, crops.flip(-1), crops).float()


def _resize_weights(start: Tensor, extent: Tensor, length: int, size: int) -> Tensor:
    """Weights (m, size, length) of the antialiased bilinear resize of [start, start + extent) pixels to `size` pixels.

    A triangle filter that widens with the reduction, over the pixels of the crop alone, each row summing to 1: what
    torchvision's `resized_crop(antialias=True)` computes where the crop has whole pixels.
    """
    scale = extent / size
    centres = start[:, None] + (torch.arange(size, device=start.device) + 0.5) * scale[:, None]
    pixels = torch.arange(length, device=start.device) + 0.5
    weights = (centres[:, :, None] - pixels).abs_()
    weights.mul_(-1.0 / scale.clamp(min=1.0)[:, None, None]).add_(1.0).clamp_(min=0.0)
    # Pixels that the crop does not touch at all must not bleed in; half a pixel, plus rounding, is touched.
    inside = (pixels > start[:, None] - 0.4999) & (pixels < (start + extent)[:, None] + 0.4999)
    weights.mul_(inside[:, None, :])
    return weights.div_(weights.sum(-1, keepdim=True))


def _colour_basis() -> Tensor:
    """(3, 9): the matrices L, P and P X P / sqrt 3 of the module's docstring, flattened."""
    luma = torch.ones(3, 1) @ torch.tensor([LUMA])
    rest = torch.eye(3) - luma
    turn = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return torch.stack([luma, rest, rest @ turn @ rest]).view(3, 9)


def _recolour(views: Tensor, params: ViewParameters, basis: Tensor) -> Tensor:
    """Brightness, contrast, saturation, hue and grey of (m, 3, S, S) on the 0..255 scale, clamped once at the end."""
    m, _, height, width = views.shape
    brightness, contrast, saturation, hue = params.colour.permute(2, 1, 0).reshape(4, m)
    gain = brightness * contrast
    angle = hue * (2 * math.pi)
    amounts = torch.stack([gain, gain * saturation * angle.cos(), gain * saturation * angle.sin()], dim=1)
    matrices = (amounts @ basis).view(m, 3, 3)
    colours = views.view(m, 3, height * width)
    mean_luma = colours.mean(-1) @ basis[0, :3]  # the first row of L: the luma weights
    offsets = ((1 - contrast) * brightness * mean_luma).view(m, 1, 1)
    return torch.baddbmm(offsets, matrices, colours).clamp_(0.0, 255.0).view(m, 3, height, width)


def _blur_(views: Tensor, sigma: Tensor) -> None:
    """Gaussian blur of (m, 3, S, S) in place, standard deviation `sigma` (m,) in pixels, 0 = none; edges reflected.

    The kernel is as wide as the view allows (radius S - 1), so nothing of it is cut off.
    """
    chosen: Tensor | slice = slice(None)
    if views.device.type == "cpu":  # elsewhere, counting the chosen would wait for the device; sigma 0 is the identity
        chosen = sigma.nonzero().view(-1)
        sigma = sigma[chosen]
    size = views.shape[-1]
    place = torch.arange(size, device=views.device)
    offset = (place[:, None] - place).abs()
    from_left = place[:, None] + place
    from_right = 2 * (size - 1) - from_left
    slope = -0.5 / sigma.clamp(min=1e-3).square().view(-1, 1, 1)
    kernel = (slope * offset.square()).exp()
    # Reflection does not repeat the edge pixel, and a pixel has one mirror image a side within the radius.
    kernel += (slope * from_left.square()).exp() * ((place > 0) & (from_left < size))
    kernel += (slope * from_right.square()).exp() * ((place < size - 1) & (from_right < size))
    kernel = (kernel / kernel.sum(-1, keepdim=True))[:, None]
    views[chosen] = kernel @ views[chosen] @ kernel.transpose(-1, -2)
