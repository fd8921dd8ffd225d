"""Files of timm's networks as several projects save them, with random weights: for the table in the docs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from clop_det.backbones import BACKBONES

State = dict[str, Tensor]
# timm's name -> whether the tensors alone do not say which network it is.
NETWORKS = {
    **dict.fromkeys(("convnext_atto", "convnext_femto", "convnext_pico", "convnext_tiny", "convnextv2_atto"), False),
    **dict.fromkeys(("resnet18d", "resnet26t", "seresnet18", "ecaresnet26t", "regnetx_002", "regnety_002"), False),
    **dict.fromkeys(("vit_tiny_patch16_224", "vit_small_patch16_224", "vit_small_patch14_dinov2"), False),
    **dict.fromkeys(("vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"), False),
    **dict.fromkeys(("vit_base_patch32_clip_224", "swin_tiny_patch4_window7_224"), False),
    **dict.fromkeys(("eva02_tiny_patch14_224", "vit_small_patch16_rope_224"), True),
    **dict.fromkeys(("resnetblur18", "sam2_hiera_tiny", "pvt_v2_b0", "mobilenetv3_small_100"), True),
}  # fmt: skip
STOCK = ("vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "swin_tiny_patch4_window7_224", "regnety_002")


def random_timm(name: str, **options: Any) -> nn.Module:
    """A network of timm in which no tensor is as it was initialised, with a classifier of three classes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=3, **options)
        BACKBONES["timm"].stir(network, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    return network.eval()


def saved(network: nn.Module, path: Path, **beside: Any) -> Path:
    """The file `path` with the network's tensors, under "state_dict" if something stands beside them."""
    torch.save({"state_dict": network.state_dict(), **beside} if beside else dict(network.state_dict()), path)
    return path


def bare(name: str, **options: Any) -> State:
    """A state dict of timm."""
    return dict(random_timm(name, **options).state_dict())


def mae(name: str = "test_vit") -> State:
    """MAE's encoder beside its decoder."""
    return {**bare(name), "mask_token": torch.zeros(1, 1, 8), "decoder_blocks.0.norm1.weight": torch.ones(8),
            "decoder_pos_embed": torch.zeros(1, 2, 8), "decoder_embed.weight": torch.ones(8, 64)}  # fmt: skip


def dinov2_with_registers(name: str = "test_vit", **options: Any) -> State:
    """Facebook's: positions of the patches and of the class token; timm's network has the latter in the token."""
    state = bare(name, **(options or {"reg_tokens": 4, "no_embed_class": True, "init_values": 0.5}))
    extra = torch.randn(1, 1, state["cls_token"].shape[-1])
    state["pos_embed"] = torch.cat([extra, state["pos_embed"]], dim=1)
    state["cls_token"] = state["cls_token"] - extra
    state["register_tokens"] = state.pop("reg_token")
    return {**state, "mask_token": torch.zeros(1, extra.shape[-1])}


def in_chunks(name: str = "test_vit", **options: Any) -> State:
    """DINOv2's training code: blocks in chunks, each block under its own number."""
    state = bare(name, **(options or {"init_values": 0.5}))
    chunks = {name: int(name.split(".")[1]) // 3 for name in state if name.startswith("blocks.")}
    return {name.replace("blocks.", f"blocks.{chunks.get(name)}."): tensor for name, tensor in state.items()}


def dinov3(name: str = "vit_tiny_patch16_dinov3_qkvb") -> State:
    """Facebook's: one bias of queries, keys and values, of which a mask leaves out the keys', and the periods."""
    found: State = {"mask_token": torch.zeros(1, 8), "rope_embed.periods": 100 ** (torch.arange(16) / 16)}
    state = bare(name)
    for key, tensor in state.items():
        new = key.replace("reg_token", "storage_tokens").replace("mlp.fc1_g", "mlp.w1").replace("mlp.fc1_x", "mlp.w2")
        new = new.replace("mlp.fc2", "mlp.w3") if f"{key.split('mlp.')[0]}mlp.fc1_g.bias" in state else new
        new = new.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
        if key.endswith(".q_bias"):
            new, zeros = key.replace("q_bias", "qkv.bias"), torch.zeros_like(tensor)
            tensor = torch.cat([tensor, torch.randn(len(tensor)), state[key.replace("q_bias", "v_bias")]])
            found[f"{new}_mask"] = torch.cat([zeros + 1, zeros, zeros + 1])
        if not key.startswith("head.") and not key.endswith(".v_bias"):
            found[new] = tensor
    return found


def dinov3_convnext(name: str = "test_convnext") -> State:
    """The names of ConvNeXt's own code, with the last normalisation twice."""
    state = {key: tensor for key, tensor in convnext_of_facebook(name).items() if not key.startswith("head.")}
    return {**state, **{f"norms.3.{kind}": state[f"norm.{kind}"] for kind in ("weight", "bias")}}


def regnet_of_transformers(name: str = "regnety_002") -> State:
    """Stages, blocks and layers count from 0; attention stands before a block's last convolution."""
    found = {}
    for key, tensor in bare(name).items():
        first, *rest = key.replace(".conv.", ".convolution.").replace(".bn.", ".normalization.").split(".")
        if first == "stem":
            found[".".join(["embedder.embedder", *rest])] = tensor
        elif first != "head":
            block, part, *rest = rest
            if part == "se":
                part, rest = f"layer.2.attention.{0 if rest[0] == 'fc1' else 2}", rest[1:]
            part = {"conv1": "layer.0", "conv2": "layer.1", "conv3": "layer.3", "downsample": "shortcut"}.get(
                part, part
            )
            found[".".join([f"encoder.stages.{int(first[1]) - 1}.layers.{int(block[1:]) - 1}", part, *rest])] = tensor
    return found


def dino(name: str = "test_vit") -> dict[str, State]:
    """DINO's full checkpoint."""
    teacher = {f"backbone.{key}": tensor for key, tensor in bare(name).items() if not key.startswith("head.")}
    teacher |= {"head.mlp.0.weight": torch.ones(8, 64), "head.last_layer.weight_v": torch.ones(8, 8)}
    return {"teacher": teacher, "student": {f"module.{key}": tensor * 2 for key, tensor in teacher.items()}}


def convnext_of_facebook(name: str = "test_convnext") -> State:
    """The names of ConvNeXt's own code."""
    found = {}
    for key, tensor in bare(name).items():
        new = key.replace("stem.", "downsample_layers.0.").replace(".blocks.", ".").replace("conv_dw", "dwconv")
        parts = new.split(".")
        if parts[0] == "stages" and parts[2] == "downsample":
            new = ".".join(["downsample_layers", parts[1], *parts[3:]])
        found[new.replace("mlp.fc", "pwconv").replace("head.norm", "norm").replace("head.fc", "head")] = tensor
    return found


def _of_torchvision(name: str, *size: int) -> State:
    network = getattr(torchvision.models, name)(*size)
    BACKBONES["timm"].stir(network, torch.Generator().manual_seed(0))
    return dict(network.state_dict())


def _lightly_train() -> State:
    return {f"_model.{name}": tensor for name, tensor in bare("vit_tiny_patch16_224").items()}


# Who saved the file -> its content, whose tensors say which network it is.
SOURCES: dict[str, Callable[[], Any]] = {
    "torchvision ConvNeXt": lambda: _of_torchvision("convnext_tiny"),
    "torchvision ViT": lambda: _of_torchvision("VisionTransformer", 224, 16, 12, 3, 192, 768),
    "torchvision Swin": lambda: _of_torchvision("swin_t"),
    "torchvision RegNet": lambda: _of_torchvision("regnet_y_400mf"),
    "ConvNeXt's own code": lambda: convnext_of_facebook("convnext_atto"),
    "MAE": lambda: mae("vit_tiny_patch16_224"),
    "DINO": lambda: dino("vit_tiny_patch16_224"),
    "DINOv2 with registers": lambda: dinov2_with_registers("vit_small_patch14_reg4_dinov2", global_pool="token"),
    "DINOv2, training code": lambda: in_chunks("vit_small_patch14_dinov2", global_pool="token"),
    "DINOv3": lambda: dinov3("vit_small_patch16_dinov3_qkvb"),
    "DINOv3, SwiGLU": lambda: dinov3("vit_small_plus_patch16_dinov3_qkvb"),
    "DINOv3 ConvNeXt": lambda: dinov3_convnext("convnext_tiny"),
    "lightly-train": _lightly_train,
    "timm, training run": lambda: {
        "state_dict": bare("convnext_atto"), "arch": "convnext_atto", "version": 2, "epoch": 1,
    },
}  # fmt: skip
