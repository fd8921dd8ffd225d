"""Tensors that another library cuts otherwise than timm: query, key and value, vectors, a class token's position."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_PARTS_OF_QKV = re.compile(
    r"(?P<before>.+\.attention\.)(?:(?P<inner>(?:attention|self)\.)query|q_proj)\.(?P<kind>weight|bias)"
)
_FLAT = re.compile(r".*(layer_scale|\.grn\.(weight|bias|gamma|beta))")


def prepared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with query, key and value joined as `qkv`, and with vectors as vectors, which some files do not have.

    With register tokens timm gives the class token no position: it is added to the token.
    """
    found = dict(tensors)
    for name in tensors:
        if match := _PARTS_OF_QKV.fullmatch(name):
            before = f"{match['before']}{match['inner'] or ''}"
            parts = ("query", "key", "value") if match["inner"] else ("q_proj", "k_proj", "v_proj")
            names = [f"{before}{part}.{match['kind']}" for part in parts]
            if all(part in found for part in names):
                found[f"{before}qkv.{match['kind']}"] = torch.cat([found.pop(part) for part in names])
        elif _FLAT.fullmatch(name) and tensors[name].dim() > 1:
            found[name] = tensors[name].flatten()
    for name in list(found):
        if name.endswith("register_tokens"):
            prefix = name.removesuffix("register_tokens")
            for positions in ("pos_embed", "position_embeddings"):
                _without_position(found, f"{prefix}cls_token", f"{prefix}{positions}")
    return found


def _without_position(found: dict[str, Tensor], token: str, positions: str) -> None:
    if token in found and positions in found and found[positions].dim() == 3:
        side = round((found[positions].shape[1] - 1) ** 0.5)
        if side * side == found[positions].shape[1] - 1:
            found[token] = found[token] + found[positions][:, :1]
            found[positions] = found[positions][:, 1:]
