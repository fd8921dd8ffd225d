"""Attention in windows for timm's plain transformers, as ViTDet has it (Li et al. 2022, arXiv 2203.16527)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.modeling.backbone.utils import window_partition, window_unpartition
from torch import Tensor


def global_blocks(depth: int, count: int) -> list[int]:
    """Indices of the blocks with global attention: the last of each of `count` equal groups, as ViTDet places them."""
    return sorted({round((i + 1) * depth / count) - 1 for i in range(count)}) if count else []


def use_windows(network: Any, size: int, count: int) -> None:
    """Let all but `count` blocks attend within windows, and the network work on its patches alone, in place.

    A token that belongs to no place, such as the class token, belongs to no window. Parameters keep their names.

    Args:
        network: a VisionTransformer of timm (`Facts.windows`).
        size: side of the windows, in patches.
        count: blocks that attend over the whole image.
    """
    without_prefix(network)
    grid = _Grid()
    network.patch_embed.register_forward_hook(lambda _, __, out: grid.take(out))
    everywhere = global_blocks(len(network.blocks), count)
    for index, block in enumerate(network.blocks):
        if index not in everywhere:
            block.attn.forward = _windowed(block.attn.forward, size, grid)


def without_prefix(network: Any) -> None:
    """Let a VisionTransformer of timm work without class and register tokens, in place; parameters stay."""
    from timm.layers import resample_abs_pos_embed

    prefix = 0 if network.no_embed_class else network.num_prefix_tokens

    def embed_positions(x: Tensor) -> Tensor:
        """Patches (N,H,W,C) -> tokens (N,H*W,C) with their position embeddings."""
        if network.pos_embed is not None:
            position = network.pos_embed[:, prefix:]
            position = resample_abs_pos_embed(
                position, list(x.shape[1:3]), list(network.patch_embed.grid_size), num_prefix_tokens=0
            )
            x = x + position.view(1, *x.shape[1:])
        tokens: Tensor = network.pos_drop(x.flatten(1, 2))
        return tokens

    network._pos_embed = embed_positions
    network.num_prefix_tokens = 0
    for name in ("cls_token", "dist_token", "reg_token"):
        if getattr(network, name, None) is not None:
            getattr(network, name).requires_grad_(False)


class _Grid:
    """Rows and columns of the patches of the images under way."""

    size: tuple[int, int]

    def take(self, patches: Tensor) -> None:
        """Patches (N,H,W,C)."""
        self.size = (patches.shape[1], patches.shape[2])


def _windowed(attend: Callable[..., Tensor], size: int, grid: _Grid) -> Callable[..., Tensor]:
    def in_windows(x: Tensor, **more: Any) -> Tensor:
        """Tokens (N,H*W,C) -> the same, mixed within windows; what pads the last windows is zero, as in ViTDet."""
        images, _, width = x.shape
        windows, padded = window_partition(x.view(images, *grid.size, width), size)
        mixed = attend(windows.flatten(1, 2), **more).view(windows.shape)
        merged: Tensor = window_unpartition(mixed, size, padded, grid.size)
        return merged.reshape(x.shape)

    return in_windows
