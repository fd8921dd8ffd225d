"""How other libraries spell networks that timm has: torchvision, transformers, and the projects that published them."""

from __future__ import annotations

import re

from clop_det.backbones.parts import OWN, TRANSFORMERS
from clop_det.backbones.timm_networks.layouts import Layout, plus

_TORCHVISION = (
    Layout(
        "torchvision",
        "torchvision's ConvNeXt",
        r"((?:.+\.)?)features\.1\.0\.layer_scale",
        (
            (r"features\.0\.([01])\.(weight|bias)", r"stem.\1.\2"),
            (r"features\.([1357])\.(\d+)\.block\.0\.(.+)", plus(r"stages.{0}.blocks.\2.conv_dw.\3", 1, 0, True)),
            (r"features\.([1357])\.(\d+)\.block\.2\.(.+)", plus(r"stages.{0}.blocks.\2.norm.\3", 1, 0, True)),
            (r"features\.([1357])\.(\d+)\.block\.3\.(.+)", plus(r"stages.{0}.blocks.\2.mlp.fc1.\3", 1, 0, True)),
            (r"features\.([1357])\.(\d+)\.block\.5\.(.+)", plus(r"stages.{0}.blocks.\2.mlp.fc2.\3", 1, 0, True)),
            (r"features\.([1357])\.(\d+)\.layer_scale", plus(r"stages.{0}.blocks.\2.gamma", 1, 0, True)),
            (r"features\.([246])\.([01])\.(.+)", plus(r"stages.{0}.downsample.\2.\3", 1, 0, True)),
            (r"classifier\.0\.(.+)", r"head.norm.\1"),
        ),
    ),
    Layout(
        "torchvision",
        "torchvision's ViT",
        r"((?:.+\.)?)encoder\.layers\.encoder_layer_0\.self_attention\.in_proj_weight",
        (
            (r"class_token", "cls_token"),
            (r"conv_proj\.(.+)", r"patch_embed.proj.\1"),
            (r"encoder\.pos_embedding", "pos_embed"),
            (r"encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.(.+)", r"blocks.\1.norm\2.\3"),
            (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_(.+)", r"blocks.\1.attn.qkv.\2"),
            (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.(.+)", r"blocks.\1.attn.proj.\2"),
            (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.(.+)", r"blocks.\1.mlp.fc1.\2"),
            (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.(.+)", r"blocks.\1.mlp.fc2.\2"),
            (r"encoder\.ln\.(.+)", r"norm.\1"),
        ),
    ),
    Layout(
        "torchvision",
        "torchvision's Swin",
        r"((?:.+\.)?)features\.1\.0\.attn\.relative_position_bias_table",
        (
            (r"features\.0\.0\.(.+)", r"patch_embed.proj.\1"),
            (r"features\.0\.2\.(.+)", r"patch_embed.norm.\1"),
            (r"features\.([1357])\.(\d+)\.mlp\.0\.(.+)", plus(r"layers.{0}.blocks.\2.mlp.fc1.\3", 1, 0, True)),
            (r"features\.([1357])\.(\d+)\.mlp\.3\.(.+)", plus(r"layers.{0}.blocks.\2.mlp.fc2.\3", 1, 0, True)),
            (
                r"features\.([1357])\.(\d+)\.((?:norm[12]|attn)\.(?!relative_position_index).+)",
                plus(r"layers.{0}.blocks.\2.\3", 1, 0, True),
            ),
            (r"features\.([246])\.(norm|reduction)\.(.+)", plus(r"layers.{0}.downsample.\2.\3", 1, 0, True)),
            (r"norm\.(.+)", r"norm.\1"),
        ),
    ),
    Layout(
        "torchvision",
        "torchvision's RegNet",
        r"((?:.+\.)?)trunk_output\.block1\.block1-0\.f\.a\.0\.weight",
        (
            (r"stem\.0\.(.+)", r"stem.conv.\1"),
            (r"stem\.1\.(.+)", r"stem.bn.\1"),
            *(
                (
                    rf"trunk_output\.block(\d)\.block\d-(\d+)\.f\.{part}\.{index}\.(.+)",
                    plus(rf"s\1.b{{0}}.conv{number}.{kind}.\3", 2, 1),
                )
                for number, part in enumerate("abc", start=1)
                for index, kind in enumerate(("conv", "bn"))
            ),
            (r"trunk_output\.block(\d)\.block\d-(\d+)\.f\.se\.(fc[12]\..+)", plus(r"s\1.b{0}.se.\3", 2, 1)),
            (r"trunk_output\.block(\d)\.block\d-(\d+)\.proj\.0\.(.+)", plus(r"s\1.b{0}.downsample.conv.\3", 2, 1)),
            (r"trunk_output\.block(\d)\.block\d-(\d+)\.proj\.1\.(.+)", plus(r"s\1.b{0}.downsample.bn.\3", 2, 1)),
        ),
    ),
)
_EMBEDDED = (
    (r"embeddings\.cls_token", "cls_token"),
    (r"embeddings\.register_tokens", "reg_token"),
    (r"embeddings\.position_embeddings", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.(.+)", r"patch_embed.proj.\1"),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.qkv\.(.+)", r"blocks.\1.attn.qkv.\2"),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(.+)", r"blocks.\1.attn.proj.\2"),
    (r"layernorm\.(.+)", r"norm.\1"),
)
_HUGGING_FACE = (
    Layout(
        TRANSFORMERS,
        "transformers' ViT",
        r"((?:.+\.)?)encoder\.layer\.0\.layernorm_before\.weight",
        (
            *_EMBEDDED,
            (r"encoder\.layer\.(\d+)\.layernorm_before\.(.+)", r"blocks.\1.norm1.\2"),
            (r"encoder\.layer\.(\d+)\.layernorm_after\.(.+)", r"blocks.\1.norm2.\2"),
            (r"encoder\.layer\.(\d+)\.intermediate\.dense\.(.+)", r"blocks.\1.mlp.fc1.\2"),
            (r"encoder\.layer\.(\d+)\.output\.dense\.(.+)", r"blocks.\1.mlp.fc2.\2"),
        ),
    ),
    Layout(
        TRANSFORMERS,
        "transformers' Dinov2",
        r"((?:.+\.)?)encoder\.layer\.0\.layer_scale1\.lambda1",
        (
            *_EMBEDDED,
            (r"encoder\.layer\.(\d+)\.(norm[12]\..+|mlp\.fc[12]\..+)", r"blocks.\1.\2"),
            (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
        ),
    ),
    Layout(
        TRANSFORMERS,
        "transformers' DINOv3ViT",
        r"((?:.+\.)?)(?<!encoder\.)layer\.0\.layer_scale1\.lambda1",
        (
            *_EMBEDDED,
            (r"embeddings\.patch_embeddings\.(weight|bias)", r"patch_embed.proj.\1"),
            (r"layer\.(\d+)\.(norm[12]\..+)", r"blocks.\1.\2"),
            (r"layer\.(\d+)\.attention\.qkv\.weight", r"blocks.\1.attn.qkv.weight"),
            (r"layer\.(\d+)\.attention\.([qv])_proj\.bias", r"blocks.\1.attn.\2_bias"),
            (r"layer\.(\d+)\.attention\.o_proj\.(.+)", r"blocks.\1.attn.proj.\2"),
            (r"layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.gamma_\2"),
            (r"layer\.(\d+)\.mlp\.up_proj\.(.+)", r"blocks.\1.mlp.fc1.\2"),
            (r"layer\.(\d+)\.mlp\.down_proj\.(.+)", r"blocks.\1.mlp.fc2.\2"),
            (r"norm\.(.+)", r"norm.\1"),
        ),
    ),
    Layout(
        TRANSFORMERS,
        "transformers' ConvNext",
        r"((?:.+\.)?)encoder\.stages\.0\.layers\.0\.dwconv\.weight",
        (
            (r"embeddings\.patch_embeddings\.(.+)", r"stem.0.\1"),
            (r"embeddings\.layernorm\.(.+)", r"stem.1.\1"),
            (r"encoder\.stages\.(\d)\.layers\.(\d+)\.dwconv\.(.+)", r"stages.\1.blocks.\2.conv_dw.\3"),
            (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layernorm\.(.+)", r"stages.\1.blocks.\2.norm.\3"),
            (r"encoder\.stages\.(\d)\.layers\.(\d+)\.pwconv([12])\.(.+)", r"stages.\1.blocks.\2.mlp.fc\3.\4"),
            (r"encoder\.stages\.(\d)\.layers\.(\d+)\.grn\.(.+)", r"stages.\1.blocks.\2.mlp.grn.\3"),
            (r"encoder\.stages\.(\d)\.layers\.(\d+)\.layer_scale_parameter", r"stages.\1.blocks.\2.gamma"),
            (r"encoder\.stages\.(\d)\.downsampling_layer\.([01])\.(.+)", r"stages.\1.downsample.\2.\3"),
            (r"layernorm\.(.+)", r"head.norm.\1"),
        ),
    ),
    Layout(
        TRANSFORMERS,
        "transformers' Swin",
        r"((?:.+\.)?)encoder\.layers\.0\.blocks\.0\.layernorm_before\.weight",
        (
            (r"embeddings\.patch_embeddings\.projection\.(.+)", r"patch_embed.proj.\1"),
            (r"embeddings\.norm\.(.+)", r"patch_embed.norm.\1"),
            (r"encoder\.(layers\.\d\.blocks\.\d+)\.layernorm_before\.(.+)", r"\1.norm1.\2"),
            (r"encoder\.(layers\.\d\.blocks\.\d+)\.layernorm_after\.(.+)", r"\1.norm2.\2"),
            (r"encoder\.(layers\.\d\.blocks\.\d+)\.attention\.self\.qkv\.(.+)", r"\1.attn.qkv.\2"),
            (
                r"encoder\.(layers\.\d\.blocks\.\d+)\.attention\.self\.relative_position_bias_table",
                r"\1.attn.relative_position_bias_table",
            ),
            (r"encoder\.(layers\.\d\.blocks\.\d+)\.attention\.output\.dense\.(.+)", r"\1.attn.proj.\2"),
            (r"encoder\.(layers\.\d\.blocks\.\d+)\.intermediate\.dense\.(.+)", r"\1.mlp.fc1.\2"),
            (r"encoder\.(layers\.\d\.blocks\.\d+)\.output\.dense\.(.+)", r"\1.mlp.fc2.\2"),
            (r"encoder\.layers\.(\d)\.downsample\.(.+)", plus(r"layers.{0}.downsample.\2", 1, 1)),
            (r"layernorm\.(.+)", r"norm.\1"),
        ),
    ),
    Layout(
        TRANSFORMERS,
        "transformers' RegNet",
        r"((?:.+\.)?)encoder\.stages\.0\.layers\.0\.layer\.0\.convolution\.weight",
        (
            (r"embedder\.embedder\.convolution\.(.+)", r"stem.conv.\1"),
            (r"embedder\.embedder\.normalization\.(.+)", r"stem.bn.\1"),
            (r"encoder\.stages\.(\d)\.layers\.(\d+)\.(.+)", lambda match: _regnet(match)),
        ),
        ("embedder.embedder.convolution.weight", 3),
    ),
)
_PROJECTS = (
    Layout(
        OWN,
        "the names of Swin's own code",
        r"((?:.+\.)?)(?<!encoder\.)layers\.0\.downsample\.reduction\.weight",
        (
            (r"layers\.(\d)\.downsample\.(.+)", plus(r"layers.{0}.downsample.\2", 1, 1)),
            (r"((?:patch_embed|norm)\..+|layers\.\d\.blocks\.(?!.+(?:relative_position_index|attn_mask)$).+)", r"\1"),
        ),
    ),
    Layout(
        OWN,
        "the names of ConvNeXt's own code",
        r"((?:.+\.)?)downsample_layers\.0\.0\.weight",
        (
            (r"downsample_layers\.0\.([01])\.(.+)", r"stem.\1.\2"),
            (r"downsample_layers\.([123])\.([01])\.(.+)", r"stages.\1.downsample.\2.\3"),
            (r"stages\.(\d)\.(\d+)\.dwconv\.(.+)", r"stages.\1.blocks.\2.conv_dw.\3"),
            (r"stages\.(\d)\.(\d+)\.norm\.(.+)", r"stages.\1.blocks.\2.norm.\3"),
            (r"stages\.(\d)\.(\d+)\.pwconv([12])\.(.+)", r"stages.\1.blocks.\2.mlp.fc\3.\4"),
            (r"stages\.(\d)\.(\d+)\.grn\.gamma", r"stages.\1.blocks.\2.mlp.grn.weight"),
            (r"stages\.(\d)\.(\d+)\.grn\.beta", r"stages.\1.blocks.\2.mlp.grn.bias"),
            (r"stages\.(\d)\.(\d+)\.gamma", r"stages.\1.blocks.\2.gamma"),
            (r"norm\.(.+)", r"head.norm.\1"),
        ),
    ),
    Layout(
        OWN,
        "the names of DINOv2's own code",
        r"((?:.+\.)?)(?:(?<!embeddings\.)register_tokens|blocks\.0\.0\.norm1\.weight)",
        (
            (r"register_tokens", "reg_token"),
            (r"blocks\.\d+\.(\d+)\.(.+)", r"blocks.\1.\2"),
            (r"((?:cls_token|pos_embed|patch_embed\..+|blocks\..+|norm\..+))", r"\1"),
        ),
    ),
)
LAYOUTS = (*_TORCHVISION, *_HUGGING_FACE, *_PROJECTS)


def _regnet(match: re.Match[str]) -> str:
    """transformers' RegNet: a block's third layer is attention in RegNetY, and its last convolution the one behind."""
    block, rest = f"s{int(match[1]) + 1}.b{int(match[2]) + 1}", match[3]
    rest = re.sub(r"^layer\.2\.attention\.0\.", "se.fc1.", rest)
    rest = re.sub(r"^layer\.2\.attention\.2\.", "se.fc2.", rest)
    rest = re.sub(r"^shortcut\.", "downsample.", rest)
    rest = re.sub(r"^layer\.([01])\.", lambda inner: f"conv{int(inner[1]) + 1}.", rest)
    rest = re.sub(r"^layer\.[23]\.", "conv3.", rest)
    return f"{block}.{rest.replace('.convolution.', '.conv.').replace('.normalization.', '.bn.')}"
