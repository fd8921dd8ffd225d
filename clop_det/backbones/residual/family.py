"""torchvision's residual networks as a family: what a detector, a file and a config have to do with them."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling.roi_heads import build_roi_heads
from torch import Tensor, nn

from clop_det.backbones.base import Family, shapes_of
from clop_det.backbones.detectors import TargetDetector, bottom_up, fpn_config, has_res5_head
from clop_det.backbones.parts import NUMBERED, TRANSFORMERS, Network, Root, Setting
from clop_det.backbones.registry import register_backbone
from clop_det.backbones.residual.architectures import (
    ARCHITECTURES,
    ResidualArchitecture,
    architecture_of,
    check_tensors,
    stem_of,
)
from clop_det.backbones.residual.naming import detectron2_name, torchvision_name
from clop_det.backbones.residual.network import STAGES, STEMS, ResidualBackbone, move_strides
from clop_det.backbones.residual.spellings import common_spelling, numbered_networks, transformers_networks
from clop_det.backbones.residual.statements import contradiction
from clop_det.backbones.small_maps import use_small_map_convolutions
from clop_det.errors import UserError
from clop_det.keys import PRETRAINING, Key, declare, one_of

# A detector's tensor: backbone.stem, backbone.bottom_up.res2, roi_heads.res5. An extra norm behind res5
# (roi_heads.res5.norm) is not part of the network.
_TENSOR = re.compile(r"(?<![^.])(stem(?=\.conv1\.)|res[2-5](?=\.\d+\.))\.(?!.*num_batches_tracked$).*")

declare(
    PRETRAINING,
    {
        "ENCODER.STEM": Key(
            "imagenet",
            "imagenet: 7x7 stride-2 convolution and max-pooling, what detection needs; cifar: 3x3 stride 1, no"
            " pooling.",
            one_of(*STEMS),
        )
    },
    ("backbone", "residual"),
)


class ResidualDetector(TargetDetector):
    """A detector's residual network; that of a C4 detector keeps the last stage in its box head."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        if cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeads":
            self.roi_heads = build_roi_heads(cfg, self.backbone.output_shape())

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs of res2, res3, res4, res5."""
        features = super().stages(images)
        if hasattr(self, "roi_heads"):
            features["res5"] = self.roi_heads.res5(features["res4"])
        return features


@register_backbone("residual")
class ResidualFamily(Family):
    """ResNet, wide ResNet and ResNeXt, under torchvision's names, which timm shares."""

    noun = "residual network"
    layout = "torchvision"
    shown = "conv1 ... layer4"
    shown_detectron2 = "stem., res2 ... res5"
    anchor = "layer1.0.conv1.weight"
    parts = frozenset({"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"})
    detectron2_parts = frozenset({"stem", *STAGES})
    stem_parts = frozenset({"stem"})
    norm_key = "MODEL.RESNETS.NORM"
    conventions = (
        Setting(
            "MODEL.RESNETS.STRIDE_IN_1X1", "stride_in_1x1", "stride", False, "the source strides as Caffe's nets do"
        ),
    )
    architecture_settings = (
        Setting("MODEL.RESNETS.DEPTH", "depth", "depth"),
        Setting("MODEL.RESNETS.RES2_OUT_CHANNELS", "res2_out_channels", "width of res2"),
        Setting("MODEL.RESNETS.WIDTH_PER_GROUP", "width_per_group", "width of a group"),
        Setting("MODEL.RESNETS.NUM_GROUPS", "num_groups", "groups"),
    )
    namings = ("torchvision", "timm")
    stem_remedy = "Pretrain with ENCODER.STEM imagenet"
    proof_hint = (
        "Wrong from res2 on: channel order or normalisation; only from res3 on: stride placement (--stride-in-1x1);"
        " elsewhere: tensors."
    )
    loading_remedy = (
        "Convert it with clop-det convert, and set MODEL.RESNETS.DEPTH, RES2_OUT_CHANNELS, WIDTH_PER_GROUP"
        " and NORM to the checkpoint's network."
    )

    def architectures(self) -> list[str]:
        return list(ARCHITECTURES)

    def find(self, arch: str) -> ResidualArchitecture | None:
        return ARCHITECTURES.get(arch)

    def build(self, arch: str, **options: Any) -> ResidualBackbone:
        """See `ResidualBackbone`."""
        network = ResidualBackbone(ARCHITECTURES[arch], **options)
        use_small_map_convolutions(network)
        return network

    def options(self, cfg: CfgNode, own: Mapping[str, Any]) -> dict[str, Any]:
        return {"stem": cfg.ENCODER.STEM}

    def reference(self, arch: str, **conventions: Any) -> ResidualBackbone:
        with torch.device("meta"):  # an initialisation takes seconds, and nothing of it stays
            network = ResidualBackbone(ARCHITECTURES[arch])
        network.to_empty(device="cpu")
        if conventions.get("stride_in_1x1"):
            move_strides(network)
        return network

    @functools.cache  # noqa: B019  (the one object lives as long as the process)
    def _shapes(self, arch: str) -> dict[str, tuple[int, ...]]:
        return shapes_of(self, arch)

    def identify(self, state: Mapping[str, Tensor], hints: Iterable[str] = ()) -> Network:
        stem, architecture = stem_of(state), architecture_of(state)
        expected = {**self._shapes(architecture.name), "conv1.weight": tuple(state["conv1.weight"].shape)}
        check_tensors(architecture.name, state, expected)
        misfit = "" if stem == "imagenet" else "3x3 CIFAR stem, for which Detectron2's 7x7 stem has no place"
        return Network(architecture, stem, misfit)

    def detectron2_name(self, own: str) -> str:
        return detectron2_name(own)

    def own_name(self, detectron2: str) -> str:
        return torchvision_name(detectron2)

    def locate(self, key: str) -> tuple[str, str]:
        found = _TENSOR.search(key)
        return (found[1], found[0]) if found else ("", "")

    def roots(self, tensors: Mapping[str, Tensor]) -> list[Root]:
        spelled = ((NUMBERED, numbered_networks(tensors)), (TRANSFORMERS, transformers_networks(tensors)))
        return super().roots(tensors) + [
            Root(self.name, prefix, form, form, names) for form, found in spelled for prefix, names in found.items()
        ]

    def contradiction(self, architecture: Any, facts: Mapping[str, Any]) -> str:
        return contradiction(architecture, facts)

    def conventions_said(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """transformers' ResNet may stride as Caffe's networks do, and its configuration says so."""
        said = facts.get("config.json.downsample_in_bottleneck")
        return {"stride_in_1x1": True} if said is True else {}

    def read_own(self, tensors: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
        return {name: common_spelling(own) for name, own in super().read_own(tensors, prefix).items()}

    def read_detectron2(self, tensors: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
        names = super().read_detectron2(tensors, prefix)
        # A C4 detector keeps the last stage in its head: backbone.res2 ... backbone.res4, roi_heads.res5.
        if prefix.endswith("backbone.") and f"{prefix}res5.0.conv1.weight" not in tensors:
            head = prefix.removesuffix("backbone.") + "roi_heads."
            names |= {
                name: own
                for name, own in super().read_detectron2(tensors, head).items()
                if name.startswith(f"{head}res5.") and not name.startswith(f"{head}res5.norm.")  # the head's own norm
            }
        return names

    def converted_by_detectron2(self, names: Iterable[str]) -> str:
        """Detectron1's and Caffe2's files."""
        return "Caffe2" if any("branch2a" in name for name in names) else ""

    def targets(self, architecture: Any) -> tuple[str, ...]:
        """FPN always; C4 only with bottlenecks, for its head is always made of these."""
        return ("FPN", "C4") if architecture.bottleneck else ("FPN",)

    def target_config(self, target: str) -> CfgNode:
        cfg = fpn_config("build_resnet_fpn_backbone")
        cfg.MODEL.RESNETS.NORM = "BN"
        cfg.MODEL.RESNETS.OUT_FEATURES = list(STAGES)
        cfg.MODEL.FPN.IN_FEATURES = list(STAGES)
        if target == "C4":
            cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
            cfg.MODEL.RESNETS.OUT_FEATURES = list(STAGES[:-1])
            cfg.MODEL.ROI_HEADS.NAME = "Res5ROIHeads"
            cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
        return cfg

    def target_network(self, cfg: CfgNode) -> ResidualDetector:
        return ResidualDetector(cfg)

    def carried_by(self, cfg: CfgNode) -> bool:
        """Also in builders of others, as long as they say so."""
        return "resnet" in str(cfg.MODEL.BACKBONE.NAME).lower()

    def check_detector(self, cfg: CfgNode) -> None:
        """Refuse ResNet-18 and 34 as C4: Detectron2's default head is Res5ROIHeads, also where no box head is used."""
        if cfg.MODEL.RESNETS.DEPTH < 50 and has_res5_head(cfg):
            raise UserError(
                f"MODEL.RESNETS.DEPTH is {cfg.MODEL.RESNETS.DEPTH} and MODEL.ROI_HEADS.NAME {cfg.MODEL.ROI_HEADS.NAME}:"
                " the res5 head is made of bottleneck blocks, so it would hold a mixture of two networks. Use an FPN"
                " config."
            )

    def check_way_back(self, path: Path, record: Mapping[str, Any]) -> None:
        if record.get("stride_in_1x1"):
            raise UserError(
                f"{path} strides in the first 1x1 convolution of a bottleneck; torchvision's and timm's networks stride"
                " in the 3x3 one, so under their names it would compute something else. There is no way back for it."
            )

    def detector_features(self, detector: nn.Module, images: Tensor) -> Tensor:
        """res5 averaged over the image: that of the network below a pyramid, or that of a C4 head on the whole map."""
        outputs = bottom_up(detector)(images)
        features: Tensor = outputs[max(outputs)]  # res2 < ... < res5
        head: Any = getattr(detector, "roi_heads", None)
        if hasattr(head, "res5"):
            features = getattr(head, "residual_res5", head.res5)(features)
        return features.float().mean(dim=(2, 3))
