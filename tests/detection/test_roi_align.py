from __future__ import annotations

import pytest
import torch
from detectron2.layers import ROIAlign
from torch import Tensor, nn
from torchvision import ops

from clop_det.detection.roi_align import MAX_CELLS, SmallMapROIAlign, roi_align, use_small_map_roi_align


def boxes(count: int, images: int, seed: int) -> Tensor:
    """Boxes in pixels of a 64 px image: inside, partly outside, far outside, tiny, and turned inside out."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 90 - 20
    extent = torch.rand(count, 2, generator=generator) * 50
    extent[:2] = 1e-3
    corner[2] = 500
    extent[3] = -5
    owner = torch.randint(images, (count, 1), generator=generator).float()
    return torch.cat([owner, corner, corner + extent], 1)


@pytest.mark.parametrize("sampling", [0, 1, 2])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("height", "width", "scale"), [(16, 16, 0.25), (12, 20, 0.2), (3, 5, 0.06)])
def test_equals_torchvision_with_gradient(sampling: int, aligned: bool, height: int, width: int, scale: float) -> None:
    features = torch.randn(3, 5, height, width, dtype=torch.float64, requires_grad=True)
    rois = boxes(30, 3, seed=sampling).double()
    weight = torch.randn(30, 5, 4, 7, dtype=torch.float64)
    expected = ops.roi_align(features, rois, (4, 7), scale, sampling, aligned)
    (reference,) = torch.autograd.grad((expected * weight).sum(), features)
    pooled = roi_align(features, rois, (4, 7), scale, sampling, aligned)
    (gradient,) = torch.autograd.grad((pooled * weight).sum(), features)
    # Box arithmetic is in fp32 here, as Detectron2's boxes are.
    assert torch.allclose(pooled, expected, atol=2e-5)
    assert torch.allclose(gradient, reference, atol=2e-4)


def test_an_image_without_boxes_gets_a_zero_gradient() -> None:
    features = torch.randn(2, 3, 8, 8, requires_grad=True)
    rois = torch.tensor([[1.0, 2, 2, 30, 30]])
    roi_align(features, rois, (7, 7), 0.25).sum().backward()
    assert features.grad is not None
    assert features.grad[0].abs().sum() == 0
    assert features.grad[1].abs().sum() > 0


def test_no_boxes_at_all_stay_in_the_graph() -> None:
    features = torch.randn(2, 3, 8, 8, requires_grad=True)
    pooled = roi_align(features, torch.zeros(0, 5), (7, 7), 0.25)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert features.grad is not None


def test_bf16_stays_bf16_and_close() -> None:
    features = torch.randn(2, 8, 16, 16)
    rois = boxes(20, 2, seed=1)
    exact = roi_align(features, rois, (7, 7), 0.25)
    blurred = roi_align(features.bfloat16(), rois, (7, 7), 0.25)
    assert blurred.dtype == torch.bfloat16
    assert (blurred.float() - exact).abs().max() < 0.05


def test_exchange_covers_every_level_and_leaves_large_maps_to_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.ModuleList([ROIAlign((7, 7), 0.25, 0), nn.Sequential(ROIAlign((7, 7), 0.125, 2))])
    assert use_small_map_roi_align(model) == 2
    assert all(isinstance(m, SmallMapROIAlign) for m in model.modules() if isinstance(m, ROIAlign))

    def refuse(*_: object, **__: object) -> Tensor:
        raise AssertionError("a large map must not be pooled by matrix products")

    monkeypatch.setattr("clop_det.detection.roi_align.roi_align", refuse)
    side = int(MAX_CELLS**0.5) + 1
    rois = torch.tensor([[0.0, 2, 2, 30, 30]])
    assert model[0](torch.randn(1, 2, side, side), rois).shape == (1, 2, 7, 7)
    with pytest.raises(AssertionError, match="large map"):
        model[0](torch.randn(1, 2, 8, 8), rois)
