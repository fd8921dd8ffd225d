"""Networks of Hugging Face's transformers, as that library itself makes and saves them: for the table in the docs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from clop_det.backbones import BACKBONES

_TINY = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3}
_SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
_REGISTERS = {"num_register_tokens": 4}
_REGNET = {"embedding_size": 32, "hidden_sizes": [48, 104, 208, 440], "depths": [1, 3, 6, 6], "groups_width": 8}
_BASIC = {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]}
# Model of transformers -> arguments of its configuration: those of a network that timm has.
NETWORKS: dict[str, dict[str, Any]] = {
    "ResNet": _BASIC,
    "RegNet": {"layer_type": "y", **_REGNET},
    "ConvNext": {"layer_norm_eps": 1e-6},
    "ConvNextV2": {"layer_norm_eps": 1e-6},
    "Swin": {},
    "ViT": {"intermediate_size": 768, "layer_norm_eps": 1e-6, **_TINY},
    "Dinov2": {"patch_size": 14, "image_size": 518, "layer_norm_eps": 1e-6, **_SMALL},
    "Dinov2WithRegisters": {"patch_size": 14, "image_size": 518, "layer_norm_eps": 1e-6, **_SMALL, **_REGISTERS},
    "DINOv3ViT": {"intermediate_size": 768, **_TINY, **_REGISTERS},
    "DINOv3ConvNext": {"layer_norm_eps": 1e-6},
}


def write(name: str, folder: Path) -> Path:
    """Write a random network of that name to a folder, and give the folder."""
    import transformers

    torch.manual_seed(0)
    network = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**NETWORKS[name]))
    BACKBONES["timm"].stir(network, torch.Generator().manual_seed(0))
    network.save_pretrained(folder / "hub")
    return folder / "hub"
