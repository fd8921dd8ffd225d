"""timm's networks as Detectron2's own ViT, SwinTransformer and RegNet, so that stock configs load their weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detectron2.modeling.backbone.regnet import AnyNet, ResBottleneckBlock, SimpleStem
from detectron2.modeling.backbone.swin import SwinTransformer
from torch import Tensor, nn
from torch.nn import functional

from clop_det.backbones.parts import Stock
from clop_det.backbones.timm_networks.architectures import TimmArchitecture
from clop_det.backbones.timm_networks.network import TimmBackbone
from clop_det.backbones.timm_networks.stock_vit import vit
from clop_det.errors import UserError

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class _Rules:
    """(pattern of timm's name, Detectron2's) of what is carried; what a detector has no place for, by reason."""

    names: tuple[tuple[str, str], ...]
    without: tuple[tuple[str, str], ...]


_SWIN = _Rules(
    (
        (r"(patch_embed\..+)", "{0}"),
        (r"(layers\.\d+\.blocks\..+)", "{0}"),
    ),
    ((r"norm\..+", "last normalisation"),),
)
_REGNET = _Rules(
    (
        (r"(stem\..+)", "{0}"),
        (r"(s\d\.b\d+)\.conv1\.conv\.weight", "{0}.f.a.weight"),
        (r"(s\d\.b\d+)\.conv1\.bn\.(.+)", "{0}.f.a_bn.{1}"),
        (r"(s\d\.b\d+)\.conv2\.conv\.weight", "{0}.f.b.weight"),
        (r"(s\d\.b\d+)\.conv2\.bn\.(.+)", "{0}.f.b_bn.{1}"),
        (r"(s\d\.b\d+)\.conv3\.conv\.weight", "{0}.f.c.weight"),
        (r"(s\d\.b\d+)\.conv3\.bn\.(.+)", "{0}.f.c_bn.{1}"),
        (r"(s\d\.b\d+)\.se\.fc1\.(.+)", "{0}.f.se.f_ex.0.{1}"),
        (r"(s\d\.b\d+)\.se\.fc2\.(.+)", "{0}.f.se.f_ex.2.{1}"),
        (r"(s\d\.b\d+)\.downsample\.conv\.weight", "{0}.proj.weight"),
        (r"(s\d\.b\d+)\.downsample\.bn\.(.+)", "{0}.bn.{1}"),
    ),
    (),
)


def stock(architecture: TimmArchitecture, network: TimmBackbone, state: State) -> Stock:
    """Detectron2's own model of a network, and its tensors under that model's names.

    Args:
        architecture: which network.
        network: the same, with its weights.
        state: the weights under timm's names.

    Raises:
        UserError: Detectron2 has no such model, or not with all of its parts.
    """
    import timm.models as models

    for kind, make in (
        (models.vision_transformer.VisionTransformer, vit),
        (models.swin_transformer.SwinTransformer, _swin),
        (models.regnet.RegNet, _regnet),
    ):
        if isinstance(network, kind):
            return make(architecture, network, state)
    raise UserError(
        f"Detectron2 has no model of its own for {architecture.name}: it has ViT, SwinTransformer and RegNet. Leave"
        " --to out, and let the detector run timm's network."
    )


def _renamed(
    architecture: TimmArchitecture, state: State, rules: _Rules
) -> tuple[dict[str, Tensor], dict[str, list[str]]]:
    tensors, dropped = {}, dict[str, list[str]]()
    for name, tensor in state.items():
        found = next(((m, to) for pattern, to in rules.names if (m := re.fullmatch(pattern, name))), None)
        reason = next((reason for pattern, reason in rules.without if re.fullmatch(pattern, name)), None)
        if found is not None:
            tensors[found[1].format(*found[0].groups())] = tensor
        elif reason is not None:
            dropped.setdefault(reason, []).append(name)
        else:
            raise UserError(
                f"Detectron2's own model has no place for {name} of {architecture.name}. Leave --to out, and let the"
                " detector run timm's network."
            )
    return tensors, dropped


def _swin(architecture: TimmArchitecture, network: Any, state: State) -> Stock:
    # timm merges patches where a stage begins, Detectron2 where the one before it ends.
    moved = {re.sub(r"^layers\.(\d+)\.downsample\.", _earlier, name): tensor for name, tensor in state.items()}
    rules = _Rules((*_SWIN.names, (r"(layers\.\d+\.downsample\..+)", "{0}")), _SWIN.without)
    tensors, dropped = _renamed(architecture, moved, rules)
    blocks = [layer.blocks for layer in network.layers]
    arguments = {
        "patch_size": network.patch_embed.patch_size[0],
        "embed_dim": network.embed_dim[0] if isinstance(network.embed_dim, list | tuple) else network.embed_dim,
        "depths": [len(stage) for stage in blocks],
        "num_heads": [stage[0].attn.num_heads for stage in blocks],
        "window_size": blocks[0][0].attn.window_size[0],
    }
    model = SwinTransformer(**arguments, drop_path_rate=0.0)
    # Constants of the model, and its normalisations of the maps, which a classifier does not have: as it makes them.
    made = model.state_dict()
    added = [name for name in made if name.endswith("relative_position_index") or re.match(r"norm\d\.", name)]
    tensors |= {name: made[name].clone() for name in added}

    def maps(images: Tensor) -> dict[str, Tensor]:
        found = list(network.maps(images).values())
        return {f"p{index}": _normalised(value) for index, value in enumerate(found)}

    # Windows that no padding fills: timm shifts before it pads, Detectron2 (as Swin's own detectors) pads first.
    size = (32 * arguments["window_size"], 64 * arguments["window_size"])
    return Stock("SwinTransformer", arguments, tensors, dropped, model, model.forward, network, maps, added, size)


def _earlier(match: re.Match[str]) -> str:
    return f"layers.{int(match[1]) - 1}.downsample."


def _normalised(maps: Tensor) -> Tensor:
    """Maps (N,C,H,W) with a layer normalisation without parameters."""
    last = maps.permute(0, 2, 3, 1)
    return functional.layer_norm(last, last.shape[-1:]).permute(0, 3, 1, 2)


def _regnet(architecture: TimmArchitecture, network: Any, state: State) -> Stock:
    tensors, dropped = _renamed(architecture, state, _REGNET)
    stages = [getattr(network, f"s{number}") for number in range(1, 5)]
    firsts = [stage.b1 for stage in stages]
    widths = [first.conv3.conv.out_channels for first in firsts]
    arguments: dict[str, Any] = {
        "stem_width": network.stem.conv.out_channels,
        "depths": [len(list(stage.children())) for stage in stages],
        "widths": widths,
        "group_widths": [first.conv2.conv.weight.shape[1] for first in firsts],
        "strides": [first.conv2.conv.stride[0] for first in firsts],
        "bottleneck_ratios": [
            first.conv1.conv.out_channels / width for first, width in zip(firsts, widths, strict=True)
        ],
        "se_ratio": 0.25 if any(".se." in name for name in state) else 0.0,
    }
    names = [f"s{number}" for number in range(1, 5)]
    model = AnyNet(
        **arguments,
        stem_class=SimpleStem,
        block_class=ResBottleneckBlock,
        activation_class=_relu,
        out_features=names,
    )

    def maps(images: Tensor) -> dict[str, Tensor]:
        return dict(zip(names, network.maps(images).values(), strict=True))

    return Stock("RegNet", arguments, tensors, dropped, model, model.forward, network, maps, [])


def _relu() -> nn.Module:
    return nn.ReLU(inplace=True)
