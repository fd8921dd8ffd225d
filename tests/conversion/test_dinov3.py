"""DINOv3's files under the names of its own code: what these say is what the network computes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from clop_det.conversion.convert import convert_checkpoint
from clop_det.errors import UserError
from tests.conversion.test_timm_sources import loaded
from tests.conversion.timm_samples import State, dinov3, dinov3_convnext

TINY = "vit_tiny_patch16_dinov3_qkvb"
HEAD = 64


def computed(state: State, images: Tensor) -> Tensor:
    """Images (N,3,H,W) -> patches (N,H/16*W/16,C) before the last normalisation, from the tensors under DINOv3's names.

    Written from the paper and the published code's description: registers behind the class token, rotary positions on
    the patches alone (coordinates from -1 to 1, half a head turns with the rows, half with the columns).
    """
    grid = functional.conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=16)
    rows, columns = grid.shape[2:]
    tokens = torch.cat([state["cls_token"], state["storage_tokens"]], dim=1).expand(len(images), -1, -1)
    x = torch.cat([tokens, grid.flatten(2).transpose(1, 2)], dim=1)
    angles = []
    for count, other, axis in ((rows, columns, 0), (columns, rows, 1)):
        place = 2 * (torch.arange(count) + 0.5) / count - 1
        turned = 2 * torch.pi * place[:, None] / state["rope_embed.periods"]
        angles.append(turned[:, None].expand(-1, other, -1) if axis == 0 else turned[None].expand(other, -1, -1))
    angle = torch.cat(angles, dim=-1).flatten(0, 1).repeat(1, 2)  # (patches, head)

    def turn(heads: Tensor) -> Tensor:
        first, patches = heads[..., :5, :], heads[..., 5:, :]
        half = torch.cat([-patches[..., HEAD // 2 :], patches[..., : HEAD // 2]], dim=-1)
        return torch.cat([first, patches * angle.cos() + half * angle.sin()], dim=-2)

    for block in range(sum(name.endswith(".ls1.gamma") for name in state)):
        part = {name.removeprefix(f"blocks.{block}."): tensor for name, tensor in state.items()}
        width = part["norm1.weight"].shape
        bias = part["attn.qkv.bias"] * part["attn.qkv.bias_mask"]
        normed = functional.layer_norm(x, width, part["norm1.weight"], part["norm1.bias"], eps=1e-5)
        qkv = (normed @ part["attn.qkv.weight"].T + bias).unflatten(-1, (3, -1, HEAD)).permute(2, 0, 3, 1, 4)
        shares = (turn(qkv[0]) @ turn(qkv[1]).transpose(-1, -2) / HEAD**0.5).softmax(-1)
        mixed = (shares @ qkv[2]).transpose(1, 2).flatten(2)
        x = x + part["ls1.gamma"] * (mixed @ part["attn.proj.weight"].T + part["attn.proj.bias"])
        normed = functional.layer_norm(x, width, part["norm2.weight"], part["norm2.bias"], eps=1e-5)
        x = x + part["ls2.gamma"] * _mlp(normed, part)
    return x[:, 5:]


def _mlp(x: Tensor, part: State) -> Tensor:
    def layer(name: str, value: Tensor) -> Tensor:
        return value @ part[f"mlp.{name}.weight"].T + part[f"mlp.{name}.bias"]

    if "mlp.w1.weight" in part:
        return layer("w3", functional.silu(layer("w1", x)) * layer("w2", x))
    return layer("fc2", functional.gelu(layer("fc1", x)))


@pytest.mark.parametrize("name", [TINY, "vit_small_plus_patch16_dinov3_qkvb"])
def test_what_the_names_say_is_what_timms_network_computes(name: str) -> None:
    state = dinov3(name)
    shallow = {key: value for key, value in state.items() if not re.match(r"blocks\.(?![01]\.)", key)}
    ours: Any = loaded(name, shallow, depth=2).double()
    images = torch.randn(1, 3, 48, 80, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        expected = computed({key: value.double() for key, value in shallow.items()}, images)
        (found,) = ours.forward_intermediates(images, indices=[1], intermediates_only=True)
    # timm holds the periods, and turns the patches, in fp32.
    assert torch.allclose(found.flatten(2).transpose(1, 2), expected, rtol=1e-4, atol=1e-5)


def test_a_file_is_recognised_and_proved_and_every_tensor_accounted_for(tmp_path: Path) -> None:
    state = {**dinov3(), "local_cls_norm.weight": torch.ones(192)}
    torch.save(state, tmp_path / "source.pth")
    report = convert_checkpoint(tmp_path / "source.pth", tmp_path / "d2.pth")
    assert (report.source, report.arch) == ("dinov3", f"timm:{TINY}")
    assert report.worst_error < 1e-5
    counts = {reason: len(names) for reason, names in report.dropped.items()}
    assert counts == {"mask token": 1, "constant of the network": 13, "normalisation of local crops": 1}


def test_a_convnext_of_dinov3_has_its_last_normalisation_twice(tmp_path: Path) -> None:
    torch.save(dinov3_convnext(), tmp_path / "source.pth")
    report = convert_checkpoint(tmp_path / "source.pth", tmp_path / "d2.pth")
    assert (report.source, report.arch) == ("dinov3", "timm:test_convnext")
    assert report.dropped == {"the same tensors under another name": ["norms.3.weight", "norms.3.bias"]}


@pytest.mark.parametrize(
    ("make", "name", "change", "message"),
    [
        (dinov3, "rope_embed.periods", lambda t: t * 2, "goes from 2 to .*; timm's networks of DINOv3 have 1 to 74.99"),
        (dinov3, "blocks.3.attn.qkv.bias_mask", torch.ones_like, "blocks.3.attn.qkv.bias has a bias of the keys"),
        (dinov3_convnext, "norms.3.bias", lambda t: t + 1, "norms.3.bias and norm.bias differ"),
    ],
)
def test_what_timms_network_cannot_compute_is_refused(
    make: Any, name: str, change: Any, message: str, tmp_path: Path
) -> None:
    state = make()
    state[name] = change(state[name])
    torch.save(state, tmp_path / "source.pth")
    with pytest.raises(UserError, match=message):
        convert_checkpoint(tmp_path / "source.pth", tmp_path / "d2.pth")
