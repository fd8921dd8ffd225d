"""timm's networks as a family: what a detector, a file and a config have to do with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from clop_det.backbones.base import NETWORK_KEYS, Family
from clop_det.backbones.detectors import TargetDetector, bottom_up, fpn_config, has_res5_head
from clop_det.backbones.parts import DETECTRON2, OWN, Network, Root, Setting, Stock
from clop_det.backbones.registry import register_backbone
from clop_det.backbones.timm_networks import config  # noqa: F401  (declares the detector's keys)
from clop_det.backbones.timm_networks.architectures import (
    FORM,
    TimmArchitecture,
    check_size,
    facts_of,
    find,
)
from clop_det.backbones.timm_networks.detector import (
    architecture_of,
    check_backbone,
    check_carried,
    layers,
    pyramid_stride,
)
from clop_det.backbones.timm_networks.identify import ANCHORS, PARTS, identify, meant
from clop_det.backbones.timm_networks.joining import prepared
from clop_det.backbones.timm_networks.layouts import CONSTANTS
from clop_det.backbones.timm_networks.network import TimmBackbone, build_network
from clop_det.backbones.timm_networks.spellings import LAYOUTS
from clop_det.backbones.timm_networks.stirring import is_fresh, stir
from clop_det.backbones.timm_networks.stock import stock
from clop_det.errors import UserError
from clop_det.keys import Key, between

# What timm's networks have behind their pooled features; `head.norm` and the like are part of the features.
_CLASSIFIER = re.compile(r"(fc|classifier|head_dist|head\.fc|head(?=\.(weight|bias)$))\..+|.*\.num_batches_tracked")
_GUESSED = (
    "the file does not name its network; by the shapes of its tensors it was taken for {}. Shapes do not show the"
    " number of heads, the activation and layers without weights. If the source has others, say it with --arch, e.g."
    " --arch timm:vit_small_patch16_224:num_heads=12 for MoCo v3's ViT-S"
)
_OWN_RUN = "model.encoder.backbone."  # below it stands the network and nothing else
_TENSOR = re.compile(r"(?<![^.])timm\.(.+)")


class TimmDetector(TargetDetector):
    """A detector's network from timm; its maps are compared on images that are not shrunk first."""

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """All maps of the network."""
        maps: dict[str, Tensor] = bottom_up(self).timm.maps(images)
        return maps


@register_backbone(
    "timm",
    {
        "DROP_PATH": Key(
            0.0,
            "Stochastic depth in pretraining: rate of the last block, from 0 at the first one. A momentum teacher has"
            " none.",
            between(0, 1, "[)"),
        )
    },
)
class TimmFamily(Family):
    """The networks of timm under timm's names: with stages below a feature pyramid, plain ones as ViTDet has them."""

    noun = "network of timm"
    layout = "timm"
    shown = "timm's names"
    norm_key = "MODEL.TIMM.NORM"
    builders = (
        *("build_timm_fpn_backbone", "build_timm_retinanet_fpn_backbone"),
        *("build_timm_sfp_backbone", "build_timm_retinanet_sfp_backbone"),
    )
    architecture_settings = (Setting("MODEL.TIMM.ARCH", "arch", "architecture"),)
    namings = ("timm",)
    stirred = "stirred"
    undecayed = ("pos_embed", "cls_token", "reg_token", "relative_position_bias_table")
    proof_hint = "Wrong from the first map on: channel order or normalisation; elsewhere: tensors."
    loading_remedy = "Convert it with clop-det convert, and set MODEL.TIMM.ARCH to the checkpoint's network."

    def architectures(self) -> list[str]:
        return [FORM]

    def find(self, arch: str) -> TimmArchitecture | None:
        return find(arch)

    def build(self, arch: str, **options: Any) -> TimmBackbone:
        return build_network(self._architecture(arch), options.get("drop_path", 0.0))

    def options(self, cfg: CfgNode, own: Mapping[str, Any]) -> dict[str, Any]:
        self.check_size(cfg.ENCODER.ARCH, cfg.CLASSIFICATION.IMAGE_SIZE, "CLASSIFICATION.IMAGE_SIZE")
        return dict(own)

    def check_size(self, arch: str, size: int, key: str) -> None:
        check_size(self._architecture(arch), size, key)

    def _architecture(self, arch: str) -> TimmArchitecture:
        found = find(arch)
        if found is None:
            raise UserError(f"{arch!r} names no network of timm; write {FORM}.")
        return found

    def is_fresh(self, state: Mapping[str, Tensor]) -> bool:
        return is_fresh(state)

    def stir(self, network: Any, generator: torch.Generator) -> None:
        stir(network, generator)

    def identify(self, state: Mapping[str, Tensor], hints: Iterable[str] = ()) -> Network:
        hints = list(hints)
        found = identify(state, hints, self.is_own_name)
        named = any(said is not None and said.timm_name == found.timm_name for said in map(meant, hints))
        return Network(found, note="" if named else _GUESSED.format(found.name))

    def detectron2_name(self, own: str) -> str:
        if _CLASSIFIER.fullmatch(own):
            raise KeyError(own)
        return f"timm.{own}"

    def locate(self, key: str) -> tuple[str, str]:
        found = _TENSOR.search(key)
        if found is None or _CLASSIFIER.fullmatch(found[1]):
            return "", ""
        return found[1].split(".")[0], found[0]

    def prepared(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        return prepared(tensors)

    def roots(self, tensors: Mapping[str, Tensor]) -> list[Root]:
        converted = {name[: found.start()] for name in tensors if (found := _TENSOR.search(name))}
        roots = [
            Root(self.name, prefix, DETECTRON2, DETECTRON2, self._below(tensors, f"{prefix}timm."))
            for prefix in sorted(converted)
        ]
        if converted:
            return roots
        spelled = [
            Root(self.name, prefix, layout.form, layout.whose, names)
            for layout in LAYOUTS
            for prefix, names in layout.networks(tensors)
        ]
        if spelled:
            return spelled
        prefixes = {found["root"]: None for name in tensors for anchor in ANCHORS if (found := anchor.fullmatch(name))}
        if any(name.startswith(_OWN_RUN) for name in tensors):
            prefixes = {_OWN_RUN: None}
        return [Root(self.name, prefix, OWN, self.layout, self._network(tensors, prefix)) for prefix in prefixes]

    def _network(self, tensors: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
        """What below a prefix is a network, and not a decoder, a head or another one beside it."""
        names = self._below(tensors, prefix)
        if prefix == _OWN_RUN:
            return names
        return {name: own for name, own in names.items() if PARTS.match(own) and not own.endswith(CONSTANTS)}

    @staticmethod
    def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, str]:
        return {name: name[len(prefix) :] for name in tensors if name.startswith(prefix)}

    def stock(self, network: Network, state: Mapping[str, Tensor], **conventions: Any) -> Stock:
        architecture: Any = network.architecture
        built = self.reference(architecture.name).eval()
        assert isinstance(built, TimmBackbone)
        own = built.state_dict()
        for name, tensor in state.items():
            own[name].copy_(tensor)
        return stock(architecture, built, state)

    def contradiction(self, architecture: Any, facts: Mapping[str, Any]) -> str:
        """A name of another network of timm; one that timm does not know says nothing."""
        for key, value in facts.items():
            if key.rpartition(".")[2] not in NETWORK_KEYS or not isinstance(value, str):
                continue
            said = meant(value)
            if said is not None and said.timm_name != architecture.timm_name:
                return f"{key} = {value}"
        return ""

    def targets(self, architecture: Any) -> tuple[str, ...]:
        return ("SFP",) if check_carried(architecture).plain else ("FPN",)

    def target_config(self, target: str) -> CfgNode:
        return fpn_config(f"build_timm_{target.lower()}_backbone")

    def target_network(self, cfg: CfgNode) -> TimmDetector:
        return TimmDetector(cfg)

    def proof_size(self, architecture: Any) -> tuple[int, int]:
        """Five by six cells of the largest stride; ten by twelve patches of a plain transformer."""
        facts = facts_of(architecture)
        cells = 2 if facts.plain else 1
        return 5 * cells * facts.stride, 6 * cells * facts.stride

    def check_detector(self, cfg: CfgNode) -> None:
        architecture, facts = check_backbone(cfg)
        if has_res5_head(cfg):
            raise UserError(
                f"MODEL.ROI_HEADS.NAME is {cfg.MODEL.ROI_HEADS.NAME}, whose head is a stage of a ResNet, but"
                f" MODEL.TIMM.ARCH is {architecture.name}. Set MODEL.ROI_HEADS.NAME StandardROIHeads and"
                " MODEL.ROI_BOX_HEAD.NAME FastRCNNConvFCHead."
            )
        sides = {
            "PROBE.OBJECTS.SIZE": cfg.PROBE.OBJECTS.SIZE,
            "CLASSIFICATION.IMAGE_SIZE": cfg.CLASSIFICATION.IMAGE_SIZE,
        }
        unit = pyramid_stride(facts)
        for key, side in sides.items() if facts.plain and cfg.PROBE.ENABLED else ():
            if side % unit:
                raise UserError(
                    f"{key} is {side}, but the probes' images must be whole patches of {architecture.name}. Set {key}"
                    f" to a multiple of {unit}, or PROBE.ENABLED False."
                )

    def has_batch_norm(self, cfg: CfgNode) -> bool:
        return facts_of(architecture_of(cfg)).batch_norm

    def check_other(self, cfg: CfgNode) -> None:
        if arch := str(cfg.MODEL.TIMM.ARCH):
            builder = f"build_timm_{self.targets(self._architecture(arch))[0].lower()}_backbone"
            raise UserError(
                f"MODEL.TIMM.ARCH is {arch}, but MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME} builds another network."
                f" Set MODEL.BACKBONE.NAME {builder}, or MODEL.TIMM.ARCH ''."
            )

    def lr_factors(self, detector: nn.Module, cfg: CfgNode) -> dict[str, float]:
        decay, network = cfg.MODEL.TIMM.LR_DECAY, bottom_up(detector).timm
        if decay == 1:
            return {}
        prefix = next(name for name, module in detector.named_modules() if module is network)
        layer, unused = layers(network), facts_of(network.architecture).unused
        last = max(index for name, index in layer.items() if name not in unused) + 1
        return {f"{prefix}.{name}": decay ** (last - index) for name, index in layer.items()}

    def detector_features(self, detector: nn.Module, images: Tensor) -> Tensor:
        """As pretraining pools them; with windows the mean over the last map, for there is no class token then."""
        network = bottom_up(detector)
        if network.windowed:
            return super().detector_features(detector, images)
        features: Tensor = network.timm(network.shrunk(images))
        return features.float()
