"""Small stand-ins for the checkpoints of every source, with random weights: for the tests and the table in the docs.

Each function nests and names one network the way the project in question saves it, with what it saves beside it.
"""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from clop_det.backbones import BACKBONES

State = dict[str, Tensor]


def random_network(arch: str, seed: int = 0, stem: str = "imagenet") -> nn.Module:
    """A torchvision network with random weights and the BatchNorm statistics of random images."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: Any = getattr(torchvision.models, arch)(weights=None)
        if stem == "cifar":
            network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
            network.maxpool = nn.Identity()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.normal_(layer.bias, 0.0, 0.1)
        network.train()
        with torch.no_grad():
            for _ in range(2):
                network(torch.randn(4, 3, 64, 64))
    trained: nn.Module = network.eval()
    return trained


def backbone_state(network: nn.Module) -> State:
    """The network's tensors without classifier, with counters."""
    return {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("fc.")}


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> State:
    """`state` with `prefix` before every name."""
    return {prefix + name: tensor for name, tensor in state.items()}


def noisy(state: Mapping[str, Tensor]) -> State:
    """A momentum twin: the same names and shapes, other values."""
    return {name: tensor * 0.5 + 1 if tensor.is_floating_point() else tensor.clone() for name, tensor in state.items()}


def mlp(*widths: int, bn: bool = False) -> State:
    """State dict of linear layers with ReLU (and BatchNorm) between them."""
    layers: list[nn.Module] = []
    for index, (before, behind) in enumerate(itertools.pairwise(widths)):
        layers.append(nn.Linear(before, behind))
        if index < len(widths) - 2:
            layers += [nn.BatchNorm1d(behind), nn.ReLU()] if bn else [nn.ReLU()]
    return dict(nn.Sequential(*layers).state_dict())


def optimizer_state() -> dict[str, Any]:
    """A little optimizer state, with a tensor in it."""
    return {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}


def _own(net: nn.Module, dim: int) -> dict[str, Any]:
    model = prefixed("encoder.backbone.", backbone_state(net)) | prefixed(
        "encoder.projector.", mlp(dim, 64, 32, bn=True)
    )
    provenance = {
        "arch": None,
        "stem": "imagenet",
        "loss": "clop",
        "label_fraction": 0.1,
        "seed": 3,
        "pixel_mean": [123.675, 116.28, 103.53],
        "pixel_std": [58.395, 57.12, 57.375],
        "channel_order": "RGB",
    }
    return {"model": model | {"loss.prototypes": torch.eye(8)}, "trainer": {"iteration": 9}, "provenance": provenance}


def _moco(net: nn.Module, dim: int, head: State) -> dict[str, Any]:
    query, queue = backbone_state(net) | prefixed("fc.", head), {"module.queue": torch.randn(8, 16)}
    state = prefixed("module.encoder_q.", query) | prefixed("module.encoder_k.", noisy(query)) | queue
    state |= {"module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"epoch": 200, "arch": "resnet", "state_dict": state, "optimizer": optimizer_state()}


def _moco_v3(net: nn.Module, dim: int) -> dict[str, Any]:
    base = backbone_state(net) | prefixed("fc.", mlp(dim, 32, 16, bn=True))
    state = prefixed("module.base_encoder.", base) | prefixed("module.momentum_encoder.", noisy(base))
    return {
        "epoch": 100,
        "state_dict": state | prefixed("module.predictor.", mlp(16, 32, 16)),
        "scaler": {"scale": 1.0},
    }


def _dino(net: nn.Module, dim: int) -> dict[str, Any]:
    teacher = prefixed("module.backbone.", backbone_state(net)) | prefixed("module.head.mlp.", mlp(dim, 16, 8))
    return {
        "student": noisy(teacher),
        "teacher": teacher,
        "optimizer": optimizer_state(),
        "epoch": 1,
        "dino_loss": {"center": torch.zeros(1, 8)},
    }


def _lightly(net: nn.Module, dim: int) -> dict[str, Any]:
    backbone = nn.Sequential(*list(net.children())[:-1]).state_dict()
    state = prefixed("backbone.", backbone) | prefixed("backbone_momentum.", noisy(backbone))
    state |= prefixed("projection_head.layers.", mlp(dim, 32, 16, bn=True))
    return {
        "state_dict": state | {"criterion.memory_bank.bank": torch.randn(4, 16)},
        "pytorch-lightning_version": "2.0",
    }


def _lightly_dino(net: nn.Module, dim: int) -> dict[str, Any]:
    backbone = nn.Sequential(*list(net.children())[:-1]).state_dict()
    state = prefixed("student_backbone.", noisy(backbone)) | prefixed("teacher_backbone.", backbone)
    head = prefixed("layers.", mlp(dim, 16, 8)) | {"last_layer.weight": torch.randn(4, 8)}
    state |= prefixed("student_head.", head) | prefixed("teacher_head.", noisy(head))
    return {"state_dict": state | {"criterion.center": torch.zeros(1, 8)}, "pytorch-lightning_version": "2.0"}


def _transformers(net: nn.Module, dim: int) -> dict[str, Any]:
    """The names of ResNetForImageClassification, written out independently of the reader's rules."""
    state: State = {}
    for name, tensor in net.state_dict().items():
        parts = name.split(".")
        if parts[0] == "fc":
            new = f"classifier.1.{parts[1]}"
        elif parts[0] in ("conv1", "bn1"):
            kind = "convolution" if parts[0] == "conv1" else "normalization"
            new = f"resnet.embedder.embedder.{kind}.{parts[1]}"
        else:
            block = f"resnet.encoder.stages.{int(parts[0][-1]) - 1}.layers.{parts[1]}"
            if parts[2] == "downsample":
                new = f"{block}.shortcut.{'convolution' if parts[3] == '0' else 'normalization'}.{parts[4]}"
            else:
                kind = "convolution" if parts[2].startswith("conv") else "normalization"
                new = f"{block}.layer.{int(parts[2][-1]) - 1}.{kind}.{parts[3]}"
        state[new] = tensor
    return state


def _byol_lucidrains(net: nn.Module, dim: int) -> dict[str, Any]:
    full = dict(net.state_dict())
    online = prefixed("online_encoder.net.", full) | prefixed("online_encoder.projector.", mlp(dim, 32, 16, bn=True))
    target = {name.replace("online_", "target_"): tensor for name, tensor in noisy(online).items()}
    return prefixed("net.", full) | online | target | prefixed("online_predictor.", mlp(16, 32, 16, bn=True))


def _byol_sthalles(net: nn.Module, dim: int) -> dict[str, Any]:
    encoder = nn.Sequential(*list(net.children())[:-1]).state_dict()
    online = prefixed("encoder.", encoder) | prefixed("projetion.net.", mlp(dim, 32, 16, bn=True))
    return {
        "online_network_state_dict": online,
        "target_network_state_dict": noisy(online),
        "optimizer_state_dict": optimizer_state(),
    }


def _supcontrast(net: nn.Module, dim: int) -> dict[str, Any]:
    state = {name.replace(".downsample.", ".shortcut."): tensor for name, tensor in backbone_state(net).items()}
    model = prefixed("encoder.module.", state) | prefixed("head.", mlp(dim, dim, 16))
    return {"model": model, "optimizer": optimizer_state(), "epoch": 100}


def _solo_learn(net: nn.Module, dim: int) -> dict[str, Any]:
    state = prefixed("backbone.", backbone_state(net)) | prefixed("momentum_backbone.", noisy(backbone_state(net)))
    state |= prefixed("projector.", mlp(dim, 32, 16, bn=True)) | prefixed("classifier.", {"weight": torch.ones(4, dim)})
    return {
        "state_dict": state | {"queue": torch.randn(2, 8, 16)},
        "pytorch-lightning_version": "1.9",
        "optimizer_states": [optimizer_state()],
        "callbacks": {},
        "epoch": 3,
    }


def _vissl(net: nn.Module, dim: int) -> dict[str, Any]:
    trunk = prefixed("_feature_blocks.", backbone_state(net))
    model = {"trunk": trunk, "heads": prefixed("0.clf.", mlp(dim, 16, 8))}
    return {
        "classy_state_dict": {
            "base_model": {"model": model, "meters": {}},
            "optimizer": {"optim": optimizer_state()},
            "loss": {"center": torch.zeros(2)},
        },
        "phase_idx": 3,
        "iteration": 9,
    }


def _openselfsup(net: nn.Module, dim: int) -> dict[str, Any]:
    backbone, neck = backbone_state(net), mlp(dim, 32, 16)
    state = prefixed("encoder_q.0.", backbone) | prefixed("encoder_q.1.mlp.", neck) | prefixed("backbone.", backbone)
    state |= prefixed("encoder_k.0.", noisy(backbone)) | prefixed("encoder_k.1.mlp.", noisy(neck))
    return {"meta": {"epoch": 200}, "state_dict": state | {"queue": torch.randn(16, 8)}, "optimizer": optimizer_state()}


def _mmselfsup(net: nn.Module, dim: int) -> dict[str, Any]:
    state = prefixed("backbone.", backbone_state(net)) | prefixed("neck.", mlp(dim, 32, 16))
    return {"meta": {"mmselfsup_version": "1.0"}, "state_dict": state | prefixed("head.predictor.", mlp(16, 8))}


def _detectron2(net: nn.Module, dim: int) -> dict[str, Any]:
    arrays = {
        BACKBONES["residual"].detectron2_name(name): np.asarray(tensor.numpy())
        for name, tensor in net.state_dict().items()
        if BACKBONES["residual"].is_own_name(name)
    }
    return {"model": arrays, "__author__": "someone", "matching_heuristics": True}


def _simclr(net: nn.Module, dim: int) -> dict[str, Any]:
    state = prefixed("backbone.", backbone_state(net) | prefixed("fc.", mlp(dim, dim, 16)))
    return {"epoch": 100, "arch": "resnet", "state_dict": state, "optimizer": optimizer_state()}


def _backbone_beside_projector(net: nn.Module, dim: int) -> State:
    state = prefixed("module.backbone.", backbone_state(net))
    return state | prefixed("module.projector.", mlp(dim, 32, 16, bn=True))


def _barlow_twins(net: nn.Module, dim: int) -> dict[str, Any]:
    norm = prefixed("module.bn.", nn.BatchNorm1d(16, affine=False).state_dict())
    return {"epoch": 9, "model": _backbone_beside_projector(net, dim) | norm, "optimizer": optimizer_state()}


def _simsiam(net: nn.Module, dim: int) -> dict[str, Any]:
    state = prefixed("module.encoder.", backbone_state(net) | prefixed("fc.", mlp(dim, dim, 16, bn=True)))
    return {"epoch": 9, "arch": "resnet", "state_dict": state | prefixed("module.predictor.", mlp(16, 8, 16, bn=True))}


def _swav(net: nn.Module, dim: int) -> dict[str, Any]:
    state = prefixed("module.", backbone_state(net)) | prefixed("module.projection_head.", mlp(dim, 32, 16, bn=True))
    return {"epoch": 9, "state_dict": state | {"module.prototypes.weight": torch.ones(30, 16)}, "amp": {}}


def write_sample(name: str, network: nn.Module, folder: Path) -> Path:
    """Write `network` the way the source `name` (a key of `SAMPLES`) saves it; returns the file."""
    _, ending, maker = SAMPLES[name]
    content = maker(network, 512 if "layer1.0.conv3.weight" not in network.state_dict() else 2048)
    path = folder / f"checkpoint{ending}"
    if ending == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in content.items()}, str(path))
    elif ending == ".pkl":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    return path


Maker = Callable[[nn.Module, int], Any]

# What is shown in the table -> (entry of the catalogue that must be recognised, file ending, maker).
SAMPLES: dict[str, tuple[str, str, Maker]] = {
    "clop_det": ("clop_det", ".pth", _own),
    "torchvision": ("torchvision", ".pth", lambda net, dim: dict(net.state_dict())),
    "torchvision, safetensors": ("torchvision", ".safetensors", lambda net, dim: dict(net.state_dict())),
    "torchvision, DDP": ("torchvision", ".pth", lambda net, dim: {"state_dict": prefixed("module.", net.state_dict())}),
    "torchvision, compiled DDP": (
        "torchvision", ".pth", lambda net, dim: {"model": prefixed("_orig_mod.module.", net.state_dict())}
    ),
    "timm, training run": (
        "timm", ".pth.tar", lambda net, dim: {"epoch": 1, "arch": "resnet", "version": 2, "state_dict":
                                              dict(net.state_dict()), "state_dict_ema": noisy(net.state_dict())}
    ),
    "MoCo v1": ("moco", ".pth.tar", lambda net, dim: _moco(net, dim, mlp(dim, 16))),
    "MoCo v2": ("moco", ".pth.tar", lambda net, dim: _moco(net, dim, mlp(dim, dim, 16))),
    "MoCo v3": ("moco_v3", ".pth.tar", _moco_v3),
    "SimCLR, fc as projector": ("simclr", ".pth.tar", _simclr),
    "SimCLR, encoder and projector": (
        "simclr", ".tar", lambda net, dim: prefixed("encoder.", backbone_state(net)) | prefixed("projector.",
                                                                                                mlp(dim, 32, 16))
    ),
    "SwAV": ("swav", ".pth.tar", _swav),
    "DINO": ("dino", ".pth", _dino),
    "Barlow Twins": ("barlow_twins", ".pth", _barlow_twins),
    "VICReg": (
        "vicreg", ".pth", lambda net, dim: {"epoch": 9, "model": _backbone_beside_projector(net, dim)}
    ),
    "byol-pytorch": ("byol_pytorch", ".pt", _byol_lucidrains),
    "PyTorch-BYOL": ("byol_pytorch", ".pth", _byol_sthalles),
    "SimSiam": ("simsiam", ".pth.tar", _simsiam),
    "solo-learn": ("solo_learn", ".ckpt", _solo_learn),
    "lightly": ("lightly", ".ckpt", _lightly),
    "lightly, DINO": ("lightly", ".ckpt", _lightly_dino),
    "transformers": ("huggingface", ".safetensors", _transformers),
    "TimmWrapper": ("huggingface", ".pth", lambda net, dim: prefixed("timm_model.", net.state_dict())),
    "fastai": (
        "prefixed", ".pth", lambda net, dim: {
            "model": prefixed("0.", nn.Sequential(*list(net.children())[:-2]).state_dict()) | prefixed(
                "1.", mlp(2 * dim, 16, 3, bn=True)), "opt": None}
    ),
    "Lightning": (
        "lightning", ".ckpt", lambda net, dim: {"state_dict": prefixed("net.trunk.", net.state_dict()),
                                                "pytorch-lightning_version": "2.1"}
    ),
    "VISSL": ("vissl", ".torch", _vissl),
    "OpenSelfSup": ("openselfsup", ".pth", _openselfsup),
    "mmselfsup": ("openselfsup", ".pth", _mmselfsup),
    "SupContrast": ("supcontrast", ".pth", _supcontrast),
    "Detectron2 .pkl": ("detectron2", ".pkl", _detectron2),
    "unknown prefix": ("prefixed", ".pth", lambda net, dim: prefixed("my.trunk.", net.state_dict())),
}  # fmt: skip
