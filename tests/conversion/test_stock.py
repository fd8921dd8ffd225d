"""Files for Detectron2's own ViT, SwinTransformer and RegNet: no tensor missing, none unexpected, the same outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from timm.models import register_model
from timm.models.swin_transformer import _create_swin_transformer
from torch import nn

from clop_det.checkpoints.loading import quiet_loading
from clop_det.checkpoints.reading import read_provenance
from clop_det.conversion.stock import convert_to_stock
from clop_det.errors import UserError
from tests.conversion.timm_samples import random_timm, saved


class Keeping(DetectionCheckpointer):
    """Detectron2's checkpointer, which only warns; it keeps what did not fit."""

    found: Any = None

    def _load_model(self, checkpoint: Any) -> Any:
        self.found = super()._load_model(checkpoint)
        return self.found


class Detector(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def vitdet(**size: Any) -> nn.Module:
    """The backbone of Detectron2's own `mask_rcnn_vitdet.py`, at another size."""
    backbone = model_zoo.get_config("common/models/mask_rcnn_vitdet.py").model.backbone
    backbone.net.update(size)
    made: nn.Module = instantiate(backbone)
    return made


@pytest.mark.parametrize("options", [{}, {"init_values": 0.5}, {"qkv_bias": False}, {"reg_tokens": 1}])
def test_a_stock_vitdet_loads_the_file_whole_and_computes_the_same(options: dict[str, Any], tmp_path: Path) -> None:
    source = saved(random_timm("test_vit", **options), tmp_path / "vit.pth")
    settings = "".join(f":{key}={value}" for key, value in options.items())
    report = convert_to_stock(source, tmp_path / "stock.pth", arch=f"timm:test_vit{settings}")
    assert list(report.parity["ViT"]) == [f"block{number}" for number in range(1, 7)]
    assert report.worst_error < 1e-5
    model = Detector(
        vitdet(embed_dim=64, depth=6, num_heads=2, mlp_ratio=3, window_block_indexes=[0, 4], pretrain_img_size=160)
    )
    loader = Keeping(model)
    with quiet_loading():
        loader.load(str(tmp_path / "stock.pth"))
    assert not [name for name in loader.found.missing_keys if name.startswith("backbone.net.")]
    assert not loader.found.unexpected_keys
    assert not loader.found.incorrect_shapes


def test_the_record_says_which_model_and_how_to_feed_it(tmp_path: Path) -> None:
    source = saved(random_timm("test_vit"), tmp_path / "vit.pth")
    report = convert_to_stock(source, tmp_path / "stock.pth", pixel_mean=[127.5] * 3, pixel_std=[127.5] * 3)
    record = read_provenance(tmp_path / "stock.pth")
    assert (record["stock_model"], record["stock_arguments"]["pretrain_img_size"]) == ("ViT", 160)
    assert any("pixel_mean [127.5, 127.5, 127.5]" in warning for warning in report.warnings)


def test_a_regnet_is_proved_stage_by_stage(tmp_path: Path) -> None:
    report = convert_to_stock(saved(random_timm("regnetx_002"), tmp_path / "regnet.pth"), tmp_path / "stock.pth")
    (errors,) = report.parity.values()
    assert list(errors) == ["s1", "s2", "s3", "s4"]
    assert report.worst_error < 1e-5


@register_model
def swin_of_width_24(**options: Any) -> Any:
    size = {"embed_dim": 24, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 4, 8)}
    return _create_swin_transformer("swin_tiny_patch4_window7_224", **{**size, **options})


def test_a_swin_is_proved_stage_by_stage(tmp_path: Path) -> None:
    network = random_timm(swin_of_width_24.__name__)
    report = convert_to_stock(saved(network, tmp_path / "swin.pth"), tmp_path / "stock.pth")
    assert list(report.parity["SwinTransformer"]) == ["p0", "p1", "p2", "p3"]
    assert report.worst_error < 1e-5


@pytest.mark.parametrize(
    ("name", "message"), [("test_convnext", "no model of its own"), ("resnet18", "Leave --to out")]
)
def test_a_network_without_a_stock_model_is_refused(name: str, message: str, tmp_path: Path) -> None:
    source = saved(random_timm(name), tmp_path / "source.pth")
    with pytest.raises(UserError, match=message):
        convert_to_stock(source, tmp_path / "stock.pth")
    assert torch.load(source)
