"""Names of other libraries: their own networks compute what timm's do with the tensors that were read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file
from timm.layers import SwiGLUPacked
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

from clop_det.backbones import BACKBONES
from clop_det.conversion.convert import convert_checkpoint
from clop_det.conversion.sources.catalogue import SOURCES
from tests.conversion.timm_samples import (
    bare,
    convnext_of_facebook,
    dino,
    dinov2_with_registers,
    in_chunks,
    mae,
    regnet_of_transformers,
)

FAMILY = BACKBONES["timm"]
State = dict[str, Tensor]


def stirred(network: nn.Module) -> Any:
    FAMILY.stir(network, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    return network.eval()


def read(state: State) -> State:
    """The tensors under timm's names, of the one network in a state dict."""
    tensors = FAMILY.prepared(state)
    (root,) = FAMILY.roots(tensors)
    return {own: tensors[name] for name, own in root.names.items() if FAMILY.is_own_name(own)}


def loaded(name: str, state: State, **options: Any) -> Any:
    network = timm.create_model(name, pretrained=False, num_classes=0, **options)
    counters = {key: value for key, value in network.state_dict().items() if key.endswith("num_batches_tracked")}
    network.load_state_dict({**counters, **read(state)})
    return network.eval()


def _convnext() -> tuple[nn.Module, Any, Callable[[Any, Tensor], Tensor]]:
    blocks = [CNBlockConfig(16, 24, 1), CNBlockConfig(24, 32, 2), CNBlockConfig(32, 40, 1), CNBlockConfig(40, None, 1)]
    theirs = stirred(ConvNeXt(blocks, num_classes=3))
    ours = loaded("convnext_atto", theirs.state_dict(), depths=(1, 2, 1, 1), dims=(16, 24, 32, 40), conv_mlp=False)
    return (
        theirs,
        ours,
        lambda network, x: network.classifier[1](network.classifier[0](network.avgpool(network.features(x)))),
    )


def _vit() -> tuple[nn.Module, Any, Callable[[Any, Tensor], Tensor]]:
    theirs = stirred(VisionTransformer(64, 16, num_layers=2, num_heads=3, hidden_dim=192, mlp_dim=768, num_classes=3))
    ours = loaded("vit_tiny_patch16_224", theirs.state_dict(), depth=2, img_size=64)

    def features(network: Any, x: Tensor) -> Tensor:
        tokens = network._process_input(x)
        tokens = torch.cat([network.class_token.expand(len(x), -1, -1), tokens], dim=1)
        return network.encoder(tokens)[:, 0]

    return theirs, ours, features


def _swin() -> tuple[nn.Module, Any, Callable[[Any, Tensor], Tensor]]:
    size: dict[str, Any] = {"embed_dim": 24, "depths": [2, 2], "num_heads": [1, 2]}
    theirs = stirred(SwinTransformer([4, 4], window_size=[4, 4], num_classes=3, **size))
    ours = loaded("swin_tiny_patch4_window7_224", theirs.state_dict(), window_size=4, img_size=64, **size)
    return (
        theirs,
        ours,
        lambda network, x: network.flatten(network.avgpool(network.permute(network.norm(network.features(x))))),
    )


def _regnet() -> tuple[nn.Module, Any, Callable[[Any, Tensor], Tensor]]:
    theirs = stirred(torchvision.models.regnet_y_400mf(weights=None))
    ours = loaded("regnety_004", theirs.state_dict())
    return theirs, ours, lambda network, x: network.avgpool(network.trunk_output(network.stem(x)))


@pytest.mark.parametrize("make", [_convnext, _vit, _swin, _regnet])
def test_torchvisions_networks_compute_what_timms_do(make: Callable[[], Any]) -> None:
    theirs, ours, features = make()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        expected = features(theirs.double(), images).flatten(1)
        assert torch.allclose(ours.double()(images), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "source", "arch"),
    [
        (mae, "mae", "timm:test_vit"),
        (dino, "dino", "timm:test_vit"),
        (dinov2_with_registers, "dinov2", "timm:test_vit:init_values=0.5:no_embed_class=True:reg_tokens=4"),
        (regnet_of_transformers, "huggingface", "timm:regnety_002"),
        (in_chunks, "timm", "timm:test_vit:init_values=0.5"),
        (convnext_of_facebook, "timm", "timm:test_convnext"),
        (lambda: {f"_model._orig_mod.{n}": t for n, t in bare("test_vit").items()}, "prefixed", "timm:test_vit"),
    ],
)
def test_a_projects_file_is_read_and_proved(make: Callable[[], State], source: str, arch: str, tmp_path: Path) -> None:
    torch.save(make(), tmp_path / "source.pth")
    report = convert_checkpoint(tmp_path / "source.pth", tmp_path / "d2.pth", arch=arch)
    assert (report.source, report.arch) == (source, arch)
    assert report.worst_error < 1e-5


def test_the_class_tokens_position_is_added_to_it() -> None:
    state = bare("test_vit", reg_tokens=4, no_embed_class=True, init_values=0.5)
    back = read(dinov2_with_registers())
    assert back["pos_embed"].shape == state["pos_embed"].shape
    assert torch.allclose(back["cls_token"], state["cls_token"], atol=1e-6)


GATED: dict[str, Any] = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": 1024 / 192, "init_values": 1.0}


@pytest.mark.parametrize("chunks", ["", "0."])
def test_the_gated_layers_of_dinov2s_giant(chunks: str) -> None:
    options = {**GATED, "depth": 2, "img_size": 64}
    state = bare("vit_tiny_patch16_224", **options)
    theirs = {name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3"): tensor for name, tensor in state.items()}
    theirs = {name.replace("blocks.", f"blocks.{chunks}"): tensor for name, tensor in theirs.items()}
    tokens, part = torch.randn(1, 5, 192), f"blocks.{chunks}1.mlp."
    first, second = (tokens @ theirs[f"{part}w12.weight"].T + theirs[f"{part}w12.bias"]).chunk(2, dim=-1)
    expected = (functional.silu(first) * second) @ theirs[f"{part}w3.weight"].T + theirs[f"{part}w3.bias"]
    network = loaded("vit_tiny_patch16_224", theirs, **options)
    assert torch.allclose(network.blocks[1].mlp(tokens), expected, atol=1e-5)


def test_every_source_that_is_named_here_is_in_the_catalogue() -> None:
    assert {"mae", "dinov2", "huggingface", "torchvision", "timm"} <= {source.name for source in SOURCES}


def _transformers_networks(library: Any) -> dict[str, tuple[Any, str, dict[str, Any]]]:
    """Name -> small network of transformers, timm's name, and what timm's constructor needs for the same size."""
    size = {"hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 3, "layer_norm_eps": 1e-6}
    image = {"image_size": 64, "patch_size": 16}
    vit, small = {"depth": 2, "img_size": 64}, {"hidden_sizes": [16, 24, 32, 40], "depths": [1, 2, 1, 1]}
    stages = {"dims": (16, 24, 32, 40), "depths": (1, 2, 1, 1)}
    swin: dict[str, Any] = {"embed_dim": 24, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4}
    regnet = {"embedding_size": 32, "hidden_sizes": [48, 104, 208, 440], "depths": [1, 3, 6, 6], "groups_width": 8}
    scaled, of_third = {**vit, "init_values": 1.0}, {**vit, "global_pool": "token"}
    third = {**size, **image, "intermediate_size": 768, "num_register_tokens": 4, "layer_norm_eps": 1e-5}
    return {
        "ViT": (library.ViTConfig(intermediate_size=768, **size, **image), "vit_tiny_patch16_224", vit),
        "Dinov2": (library.Dinov2Config(mlp_ratio=4, **size, **image), "vit_tiny_patch16_224", scaled),
        "Dinov2, gated": (
            library.Dinov2Config(mlp_ratio=4, use_swiglu_ffn=True, **size, **image),
            "vit_tiny_patch16_224",
            {**vit, **GATED},
        ),
        "Dinov2WithRegisters": (
            library.Dinov2WithRegistersConfig(mlp_ratio=4, num_register_tokens=4, **size, **image),
            "vit_tiny_patch16_224",
            {**scaled, "reg_tokens": 4, "no_embed_class": True},
        ),
        "DINOv3ViT": (library.DINOv3ViTConfig(**third), "vit_tiny_patch16_dinov3_qkvb", of_third),
        "DINOv3ViT, gated": (
            library.DINOv3ViTConfig(use_gated_mlp=True, hidden_act="silu", **third),
            "vit_tiny_patch16_dinov3_qkvb",
            {**of_third, "swiglu_mlp": True, "swiglu_align_to": 8},
        ),
        "DINOv3ConvNext": (library.DINOv3ConvNextConfig(layer_norm_eps=1e-6, **small), "convnext_tiny", stages),
        "ConvNext": (library.ConvNextConfig(layer_norm_eps=1e-6, **small), "convnext_tiny", stages),
        "ConvNextV2": (library.ConvNextV2Config(layer_norm_eps=1e-6, **small), "convnextv2_tiny", stages),
        "Swin": (library.SwinConfig(image_size=64, **swin), "swin_tiny_patch4_window7_224", {**swin, "img_size": 64}),
        "RegNet": (library.RegNetConfig(layer_type="y", **regnet), "regnety_004", {}),
    }


@pytest.mark.parametrize(
    "name",
    [
        *("ViT", "Dinov2", "Dinov2, gated", "Dinov2WithRegisters", "DINOv3ViT", "DINOv3ViT, gated", "DINOv3ConvNext"),
        *("ConvNext", "ConvNextV2", "Swin", "RegNet"),
    ],
)
def test_transformers_networks_compute_what_timms_do(name: str, tmp_path: Path) -> None:
    library = pytest.importorskip("transformers", reason="needs Hugging Face's transformers")
    config, timm_name, options = _transformers_networks(library)[name]
    theirs = stirred(getattr(library, f"{name.split(',')[0]}Model")(config))
    theirs.save_pretrained(tmp_path)
    ours = loaded(timm_name, load_file(tmp_path / "model.safetensors"), **options).double()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        output = theirs.double()(images)
        expected = output.last_hidden_state[:, 0] if timm_name.startswith("vit") else output.pooler_output.flatten(1)
        # With registers the class token's position was added to it in fp32.
        assert torch.allclose(ours(images), expected, rtol=1e-5, atol=1e-6)
