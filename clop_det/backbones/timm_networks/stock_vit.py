"""timm's plain vision transformers as Detectron2's ViT, the backbone of ViTDet.

Detectron2's ViT has no class token, no register tokens, no LayerScale, and decomposed relative positions that begin at
zero. So what is compared is the network on its patches alone; LayerScale is multiplied into the layer before it; the
tables of relative positions are written as zeros. Position embeddings are resampled without anti-aliasing there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from detectron2.modeling.backbone.vit import ViT
from torch import Tensor, nn
from torch.nn import functional

from clop_det.backbones.parts import Stock
from clop_det.backbones.timm_networks.architectures import TimmArchitecture
from clop_det.backbones.timm_networks.windows import global_blocks, use_windows
from clop_det.errors import UserError

_IMAGE, _WINDOW, _GLOBAL = 1024, 14, 4  # of ViTDet's models
_CARRIED = re.compile(
    r"patch_embed\.proj\.(weight|bias)|blocks\.\d+\.(norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.(weight|bias)"
)
_WITHOUT = (
    (r"cls_token", "class token"),
    (r"reg_token", "register tokens"),
    (r"(fc_)?norm\..+", "last normalisation"),
    (r"blocks\.\d+\.ls[12]\.gamma", "LayerScale, multiplied into the layer before it"),
    (r"pos_embed", ""),
)


def vit(architecture: TimmArchitecture, network: Any, state: Mapping[str, Tensor]) -> Stock:
    """See `stock`."""
    tensors, dropped = _tensors(architecture, network, state)
    depth, width = len(network.blocks), network.embed_dim
    side = network.patch_embed.grid_size[0]
    patch = network.patch_embed.patch_size[0]
    everywhere = global_blocks(depth, _GLOBAL)
    arguments: dict[str, Any] = {
        "img_size": _IMAGE,
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": network.blocks[0].attn.num_heads,
        "mlp_ratio": network.blocks[0].mlp.fc1.out_features / width,
        "window_size": _WINDOW,
        "window_block_indexes": [index for index in range(depth) if index not in everywhere],
        "use_rel_pos": True,
        "pretrain_img_size": side * patch,
        "out_feature": "last_feat",
    }
    model = ViT(**arguments, norm_layer=partial(nn.LayerNorm, eps=network.blocks[0].norm1.eps), qkv_bias=True)
    made = model.state_dict()
    added = [name for name in made if ".rel_pos_" in name]
    tensors |= {name: torch.zeros_like(made[name]) for name in added}
    for index in range(depth):
        if (bias := f"blocks.{index}.attn.qkv.bias") not in tensors:
            tensors[bias] = torch.zeros_like(made[bias])
            added.append(bias)
    use_windows(network, _WINDOW, _GLOBAL)
    _resample_plainly(network)

    def read(images: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        hooks = [
            block.register_forward_hook(partial(_keep, found, f"block{index}"))
            for index, block in enumerate(model.blocks, start=1)
        ]
        model(images)
        for hook in hooks:
            hook.remove()
        return found

    return Stock(
        "ViT", arguments, tensors, dropped, model, read, network, network.maps, added, (18 * patch, 22 * patch)
    )


def _keep(found: dict[str, Tensor], name: str, _: nn.Module, __: Any, out: Tensor) -> None:
    found[name] = out.permute(0, 3, 1, 2)


def _tensors(
    architecture: TimmArchitecture, network: Any, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    tensors: dict[str, Tensor] = {}
    dropped: dict[str, list[str]] = {}
    for name, tensor in state.items():
        reason = next((reason for pattern, reason in _WITHOUT if re.fullmatch(pattern, name)), None)
        if _CARRIED.fullmatch(name):
            tensors[name] = _scaled(name, tensor, state)
        elif reason is None:
            raise UserError(
                f"Detectron2's own ViT has no place for {name} of {architecture.name}. Leave --to out, and let the"
                " detector run timm's network."
            )
        elif reason:
            dropped.setdefault(reason, []).append(name)
    block = network.blocks[0]
    if (
        not isinstance(block.mlp.act, nn.GELU)
        or network.pos_embed is None
        or len({network.patch_embed.grid_size[0], network.patch_embed.grid_size[1]}) > 1
    ):
        raise UserError(
            f"Detectron2's own ViT computes with GELU and absolute positions of a square image, which"
            f" {architecture.name} does not. Leave --to out, and let the detector run timm's network."
        )
    # Its first position is that of a class token, which Detectron2's ViT passes over.
    positions = _grid(network)
    tensors["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
    return tensors, dropped


def _scaled(name: str, tensor: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """A weight or bias times the LayerScale behind its layer, if there is one."""
    found = re.fullmatch(r"(blocks\.\d+)\.(attn\.proj|mlp\.fc2)\.(weight|bias)", name)
    if found is None:
        return tensor
    gamma = state.get(f"{found[1]}.ls{1 if found[2] == 'attn.proj' else 2}.gamma")
    if gamma is None:
        return tensor
    return tensor * (gamma[:, None] if tensor.dim() == 2 else gamma)


def _grid(network: Any) -> Tensor:
    """Position embeddings of the patches (1,H*W,C)."""
    prefix = 0 if network.no_embed_class else network.num_prefix_tokens
    positions: Tensor = network.pos_embed.detach()[:, prefix:]
    return positions


def _resample_plainly(network: Any) -> None:
    """Let the network resample its position embeddings as ViTDet does, in place: bicubic, no anti-aliasing."""
    side = network.patch_embed.grid_size[0]

    def embed_positions(x: Tensor) -> Tensor:
        size = list(x.shape[1:3])
        positions = network.pos_embed[:, -side * side :].transpose(1, 2).unflatten(2, (side, side))
        there = functional.interpolate(positions, size=size, mode="bicubic", align_corners=False)
        return (x + there.permute(0, 2, 3, 1)).flatten(1, 2)

    network._pos_embed = embed_positions
