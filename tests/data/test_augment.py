"""The batched augmentation against torchvision, operation by operation, image by image."""

from __future__ import annotations

import colorsys
import math

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.transforms.v2 import functional as reference

from clop_det.data.augment import AugmentSettings, ViewAugmentation, ViewParameters
from clop_det.data.view_parameters import draw_parameters
from clop_det.errors import UserError

NOTHING = AugmentSettings((1.0, 1.0), (1.0, 1.0), flip_prob=0.0, jitter_prob=0.0, grey_prob=0.0)
EVERYTHING = AugmentSettings(blur_prob=0.5, solarize_prob=0.3)
# fp32 on a 0..1 scale; an error of 1e-4 is a fortieth of a grey level.
TOLERANCE = {"atol": 1e-4, "rtol": 0.0}


def _photos(n: int = 6, height: int = 24, width: int = 24) -> Tensor:
    """Smooth colourful images, (n, 3, H, W) uint8, values 51..204: far enough from the ends for mild jitter."""
    small = torch.rand(n, 3, 5, 5, generator=torch.Generator().manual_seed(3))
    smooth = torch.nn.functional.interpolate(small, (height, width), mode="bicubic", align_corners=True).clamp(0, 1)
    return (51 + 153 * smooth).to(torch.uint8)


def _unchanged(n: int) -> ViewParameters:
    """Parameters that change nothing; tests write into their columns."""
    return draw_parameters(NOTHING, n, torch.Generator())


def _drawn(augmentation: ViewAugmentation, n: int, seed: int) -> ViewParameters:
    return draw_parameters(augmentation.settings, n, torch.Generator().manual_seed(seed))


def _views(images: Tensor, params: ViewParameters, size: int) -> Tensor:
    """Views on the 0..1 scale, (2, n, 3, S, S)."""
    augmentation = ViewAugmentation(EVERYTHING, size, [0, 0, 0], [255, 255, 255])
    return augmentation.apply(images, params).view(2, len(images), 3, size, size)


def test_without_any_operation_the_view_is_the_normalised_image() -> None:
    images = _photos()
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    augmentation = ViewAugmentation(NOTHING, 24, mean, std)
    views = augmentation.apply(images, _drawn(augmentation, len(images), 0))
    expected = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(views, torch.cat([expected, expected]), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize(("height", "width", "size"), [(24, 24, 24), (40, 40, 16), (17, 31, 24), (64, 48, 9)])
def test_crop_resize_and_flip_equal_torchvisions_antialiased_resized_crop(height: int, width: int, size: int) -> None:
    images = _photos(5, height, width)
    params = _unchanged(5)
    generator = torch.Generator().manual_seed(1)
    crops = torch.empty(5, 2, 4, dtype=torch.long)  # left, top, width, height in whole pixels, as torchvision has them
    for side, length in ((0, width), (1, height)):
        crops[..., 2 + side] = torch.randint(2, length + 1, (5, 2), generator=generator)
        crops[..., side] = (torch.rand(5, 2, generator=generator) * (length - crops[..., 2 + side] + 1)).long()
    params.boxes[:] = crops / torch.tensor([width, height, width, height])
    params.flip[:] = torch.randint(0, 2, (5, 2), generator=generator).float()
    views = _views(images, params, size)
    for i in range(5):
        for v in range(2):
            left, top, crop_width, crop_height = crops[i, v].tolist()
            expected = reference.resized_crop(
                images[i] / 255, top, left, crop_height, crop_width, [size, size], antialias=True
            )
            expected = reference.horizontal_flip(expected) if params.flip[i, v] else expected
            torch.testing.assert_close(views[v, i], expected, **TOLERANCE)


@pytest.mark.parametrize(
    ("column", "factor", "operation"),
    [
        (0, 0.7, reference.adjust_brightness),
        (0, 1.2, reference.adjust_brightness),
        (1, 0.6, reference.adjust_contrast),
        (1, 1.3, reference.adjust_contrast),
        (2, 0.0, lambda image, _: reference.rgb_to_grayscale(image, 3)),
        (2, 0.5, reference.adjust_saturation),
        (2, 1.2, reference.adjust_saturation),
    ],
)
def test_colour_operation_equals_torchvisions(column: int, factor: float, operation) -> None:  # type: ignore[no-untyped-def]
    images = _photos()
    params = _unchanged(len(images))
    params.colour[:, 1, column] = factor
    views = _views(images, params, 24)
    torch.testing.assert_close(views[0], images / 255, **TOLERANCE)
    # torchvision's grey weights are rounded to 0.2989 and sum to 0.9999: up to 1e-4 times the factor's distance from 1.
    torch.testing.assert_close(views[1], operation(images / 255, factor), atol=2e-4, rtol=0.0)


def test_strong_brightness_is_clamped_like_torchvisions() -> None:
    images = _photos()
    params = _unchanged(len(images))
    params.colour[:, 0, 0] = 1.8
    expected = reference.adjust_brightness(images / 255, 1.8)
    assert (expected == 1).any()
    torch.testing.assert_close(_views(images, params, 24)[0], expected, **TOLERANCE)


def test_brightness_contrast_and_saturation_compose_in_any_order() -> None:
    images = _photos()
    params = _unchanged(len(images))
    params.colour[:, 0, :3] = torch.tensor([0.85, 1.1, 0.8])
    view = _views(images, params, 24)[0]
    steps = [
        lambda x: reference.adjust_brightness(x, 0.85),
        lambda x: reference.adjust_contrast(x, 1.1),
        lambda x: reference.adjust_saturation(x, 0.8),
    ]
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        expected = images / 255
        for step in order:
            expected = steps[step](expected)
        torch.testing.assert_close(view, expected, atol=3e-4, rtol=0.0)


@pytest.mark.parametrize("turns", [-0.1, 0.05, 0.1, 1 / 3])
def test_hue_turns_the_colour_angle_and_keeps_luma_and_chroma(turns: float) -> None:
    grey = torch.full((1, 3, 8, 8), 128.0)
    images = (grey + torch.randint(-25, 26, (1, 3, 8, 8), generator=torch.Generator().manual_seed(2))).to(torch.uint8)
    params = _unchanged(1)
    params.colour[:, :, 3] = turns
    before, after = images[0].double() / 255, _views(images, params, 8)[0, 0].double()

    def chroma(rgb: Tensor) -> Tensor:  # complex number: angle = hue, modulus = distance from the grey axis
        red, green, blue = rgb
        return torch.complex(red - (green + blue) / 2, (green - blue) * math.sqrt(3) / 2)

    turn = torch.polar(torch.tensor(1.0).double(), torch.tensor(2 * math.pi * turns).double())
    torch.testing.assert_close(chroma(after), chroma(before) * turn, atol=1e-5, rtol=0.0)
    luma = torch.tensor([0.299, 0.587, 0.114]).double()
    torch.testing.assert_close(torch.tensordot(luma, after, 1), torch.tensordot(luma, before, 1), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("turns", [0.1, -0.1, 0.03])
def test_hue_reaches_the_hue_of_torchvisions_shift(turns: float) -> None:
    """The hue of the result is torchvision's; its brightness is not (HSV keeps the largest channel, this the luma)."""
    images = _photos(16)
    params = _unchanged(16)
    params.colour[:, 0, 3] = turns
    view, expected = _views(images, params, 24)[0], reference.adjust_hue(images / 255, turns)
    coloured = (expected.amax(1) - expected.amin(1)) > 0.1  # the hue of grey means nothing
    apart = (_hsv_hue(view) - _hsv_hue(expected) + 0.5).remainder(1.0) - 0.5
    # A turn of the colour circle against a shift along HSV's hexagon: at most 1.1 degrees apart at either end.
    assert coloured.float().mean() > 0.5
    assert apart[coloured].abs().max() < 2.5 / 360


def _hsv_hue(rgb: Tensor) -> Tensor:
    """Hue in turns, (n, H, W), by Python's own conversion."""
    pixels = rgb.permute(0, 2, 3, 1).reshape(-1, 3).tolist()
    return torch.tensor([colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels]).view(rgb.shape[0], *rgb.shape[2:])


@pytest.mark.parametrize("sigma", [0.1, 0.6, 1.0, 2.0])
def test_blur_equals_torchvisions_with_an_untruncated_kernel(sigma: float) -> None:
    images = _photos(5)
    params = _unchanged(5)
    params.blur_sigma[::2, 1] = sigma
    views = _views(images, params, 24)
    torch.testing.assert_close(views[0], images / 255, **TOLERANCE)
    for i in range(5):
        expected = images[i] / 255
        if i % 2 == 0:
            expected = reference.gaussian_blur(expected, [2 * 23 + 1] * 2, [sigma] * 2)
        torch.testing.assert_close(views[1, i], expected, **TOLERANCE)


def test_solarise_equals_torchvisions() -> None:
    images = _photos()
    params = _unchanged(len(images))
    params.solarize[1:4, 0] = 1
    views = _views(images, params, 24)
    torch.testing.assert_close(views[0, 1:4], reference.solarize(images[1:4] / 255, 0.5), **TOLERANCE)
    torch.testing.assert_close(views[0, 4:], images[4:] / 255, **TOLERANCE)


def test_two_samples_and_two_views_differ() -> None:
    images = _photos(1).expand(4, -1, -1, -1).contiguous()
    augmentation = ViewAugmentation(EVERYTHING, 24, [0] * 3, [255] * 3)
    views = augmentation.apply(images, _drawn(augmentation, 4, 0)).flatten(1)
    distances = torch.cdist(views, views) + 1e9 * torch.eye(8)
    assert distances.min() > 0.1


def test_slices_of_the_batch_equal_the_whole() -> None:
    n = 37
    images = _photos(n)
    augmentation = ViewAugmentation(EVERYTHING, 20, [120] * 3, [60] * 3)
    params = _drawn(augmentation, n, 5)
    whole = augmentation.apply(images, params).view(2, n, 3, 20, 20)
    for start, end in ((0, 20), (20, 37), (7, 8)):
        part = augmentation.apply(images[start:end], params[start:end]).view(2, end - start, 3, 20, 20)
        torch.testing.assert_close(part, whole[:, start:end], atol=1e-5, rtol=0.0)


def test_equal_seeds_give_bit_identical_views() -> None:
    images = _photos(9)
    augmentation = ViewAugmentation(EVERYTHING, 24, [0] * 3, [255] * 3)
    first, again, other = (augmentation.apply(images, _drawn(augmentation, 9, seed)) for seed in (4, 4, 5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_autocast_does_not_coarsen_the_views() -> None:
    images = _photos(4)
    augmentation = ViewAugmentation(EVERYTHING, 24, [120] * 3, [60] * 3)
    params = _drawn(augmentation, 4, 0)
    with torch.autocast("cpu", torch.bfloat16):
        views = augmentation.apply(images, params)
    assert views.dtype == torch.float32
    assert torch.equal(views, augmentation.apply(images, params))
    assert not views.requires_grad


@pytest.mark.gpu
def test_cuda_equals_the_cpu() -> None:
    images = _photos(33)
    augmentation = ViewAugmentation(EVERYTHING, 24, [120] * 3, [60] * 3)
    params = _drawn(augmentation, 33, 0)
    expected = augmentation.apply(images, params)
    views = augmentation.apply(images.cuda(), params.to("cuda")).cpu()
    # A pixel at the solarisation threshold may fall on either side of it.
    assert ((views - expected).abs() > 1e-3).float().mean() < 1e-3


def test_wrong_arguments_are_refused() -> None:
    augmentation = ViewAugmentation(EVERYTHING, 24, [0] * 3, [1] * 3)
    params = _unchanged(4)
    with pytest.raises(ValueError, match="uint8"):
        augmentation.apply(_photos(4).float(), params)
    with pytest.raises(ValueError, match="4 images given for 3"):
        augmentation.apply(_photos(3), params)
    with pytest.raises(UserError, match="view size is 0"):
        ViewAugmentation(EVERYTHING, 0, [0] * 3, [1] * 3)
    with pytest.raises(UserError, match="std > 0"):
        ViewAugmentation(EVERYTHING, 8, [0] * 3, [1, 0, 1])
    with pytest.raises(UserError, match="three numbers"):
        ViewAugmentation(EVERYTHING, 8, [0], [1])


def test_a_gpu_takes_a_large_batch_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes alone, on a pretended device: 4,096 images of 224 px are 28 GB of intermediate results at once."""
    sizes: list[int] = []
    finish = ViewAugmentation._finish
    monkeypatch.setattr(ViewAugmentation, "_finish", lambda s, v, p: sizes.append(v.nbytes) or finish(s, v, p))
    parameters = draw_parameters(EVERYTHING, 4096, torch.Generator())
    with FakeTensorMode() as mode:
        augmentation = ViewAugmentation(EVERYTHING, 224, [120] * 3, [60] * 3)
        fake = ViewParameters(mode.from_tensor(parameters.values).to("cuda"))
        views = augmentation.apply(torch.empty((4096, 3, 224, 224), dtype=torch.uint8, device="cuda"), fake)
    assert views.shape == (8192, 3, 224, 224)
    assert sum(sizes) == views.nbytes
    assert max(sizes) <= 256 << 20
