"""Tensors that another library cuts otherwise than timm: query, key and value, vectors, a class token's position.

DINOv3's own files say more than timm's network holds: which biases count, the periods of the rotary positions, and a
normalisation under two names. What timm's network has fixed is compared with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from clop_det.errors import UserError

_PARTS_OF_QKV = re.compile(
    r"(?P<before>.+\.attention\.)(?:(?P<inner>(?:attention|self)\.)query|q_proj)\.(?P<kind>weight|bias)"
)
_FLAT = re.compile(r".*(layer_scale|\.grn\.(weight|bias|gamma|beta))")
_ROPE_BASE = 100.0  # of DINOv3's periods, in its releases and in timm


def prepared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with query, key and value joined as `qkv`, and with vectors as vectors, which some files do not have.

    With register tokens timm gives the class token no position: it is added to the token.

    Raises:
        UserError: a file of DINOv3 whose network timm does not have.
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
        elif ".mlp.gate_proj." in name:  # of transformers
            for theirs, timm in (("gate_proj", "fc1_g"), ("up_proj", "fc1_x")):
                part = name.replace("gate_proj", theirs)
                if part in found:
                    found[part.replace(theirs, timm)] = found.pop(part)
        elif name.endswith("storage_tokens"):
            _of_dinov3(found, name.removesuffix("storage_tokens"))
        elif name.endswith("norms.3.weight"):
            _same_normalisation(found, name.removesuffix("norms.3.weight"))
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


def _of_dinov3(found: dict[str, Tensor], prefix: str) -> None:
    """Biases that count, of queries and values; periods of the positions are compared with those of timm's network."""
    biases = [name for name in found if name.startswith(f"{prefix}blocks.") and name.endswith(".attn.qkv.bias")]
    for name in biases:
        mask = found.get(f"{name}_mask", torch.ones(()))
        query, key, value = (found.pop(name) * mask.to(torch.float32)).chunk(3)
        if bool(key.any()):
            raise UserError(
                f"{name} has a bias of the keys, which rotary positions do not cancel and timm's networks of DINOv3 do"
                " not have. Give weights that were trained with mask_k_bias, as DINOv3's releases were."
            )
        before = name.removesuffix("qkv.bias")
        found[f"{before}q_bias"], found[f"{before}v_bias"] = query, value
    periods = found.get(f"{prefix}rope_embed.periods")
    if periods is not None:
        expected = _ROPE_BASE ** torch.linspace(0, 1, len(periods) + 1)[:-1]
        if not torch.allclose(periods.float(), expected, rtol=0.01):  # some files hold them in bfloat16
            raise UserError(
                f"{prefix}rope_embed.periods goes from {float(periods[0]):.4g} to {float(periods[-1]):.4g}; timm's"
                f" networks of DINOv3 have {float(expected[0]):.4g} to {float(expected[-1]):.4g}, the base"
                f" {_ROPE_BASE:g} of DINOv3's releases. No detector carries this network."
            )


def _same_normalisation(found: Mapping[str, Tensor], prefix: str) -> None:
    """DINOv3's ConvNeXt saves its last normalisation twice."""
    for kind in ("weight", "bias"):
        pair = [found.get(f"{prefix}{name}.{kind}") for name in ("norms.3", "norm")]
        if pair[0] is not None and pair[1] is not None and not torch.equal(pair[0], pair[1]):
            raise UserError(f"{prefix}norms.3.{kind} and {prefix}norm.{kind} differ; in DINOv3's files they are one.")
