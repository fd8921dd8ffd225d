"""timm's networks in Detectron2: the backbone that runs one, below a feature pyramid or a simple feature pyramid."""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from detectron2.modeling.backbone.vit import SimpleFeaturePyramid
from torch import Tensor, nn
from torch.nn import functional

from clop_det.backbones.parts import Stage
from clop_det.backbones.timm_networks.architectures import FORM, Facts, TimmArchitecture, facts_of, find
from clop_det.backbones.timm_networks.network import build_network
from clop_det.backbones.timm_networks.windows import use_windows
from clop_det.errors import UserError

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)


def architecture_of(cfg: CfgNode) -> TimmArchitecture:
    """The architecture that MODEL.TIMM.ARCH names.

    Raises:
        UserError: none, or one that no detector carries.
    """
    name = str(cfg.MODEL.TIMM.ARCH)
    found = find(name)
    if found is None:
        raise UserError(
            f"MODEL.TIMM.ARCH is {name!r}; it must name a network of timm as {FORM}, e.g. timm:convnext_tiny."
        )
    check_carried(found)
    return found


def check_carried(architecture: TimmArchitecture) -> Facts:
    """What is known of an architecture that a detector can carry.

    Raises:
        UserError: it takes images of one size only, or its strides are not those of a pyramid.
    """
    facts = facts_of(architecture)
    if facts.refuses:
        raise UserError(
            f"no detector carries {architecture.name}: it takes images of {facts.size} px alone ({facts.refuses})."
            " Choose a network for images of any size, e.g. timm:swin_tiny_patch4_window7_224 or timm:convnext_tiny."
        )
    strides = [stage.stride for _, stage in facts.maps.values()]
    if not facts.plain and strides != [strides[0] << index for index in range(len(strides))]:
        raise UserError(
            f"no feature pyramid carries {architecture.name}: its maps have the strides {strides}, which do not double"
            " from one to the next. Choose another network, e.g. timm:convnext_tiny."
        )
    return facts


def check_backbone(cfg: CfgNode) -> tuple[TimmArchitecture, Facts]:
    """The network of a config whose backbone can be built.

    Raises:
        UserError: no network, one that no detector carries, another pyramid than the builder's, attention that takes
            no windows, or maps that the network does not have.
    """
    architecture, builder = architecture_of(cfg), str(cfg.MODEL.BACKBONE.NAME)
    facts = facts_of(architecture)
    right, wrong = ("_sfp_", "_fpn_") if facts.plain else ("_fpn_", "_sfp_")
    if builder.startswith("build_timm_") and wrong in builder:
        what = "is a plain transformer, whose maps have one stride" if facts.plain else "has stages of its own"
        raise UserError(
            f"MODEL.BACKBONE.NAME is {builder}, but {architecture.name} {what}. Set MODEL.BACKBONE.NAME"
            f" {builder.replace(wrong, right)}."
        )
    if cfg.MODEL.TIMM.WINDOW_SIZE and not facts.windows:
        raise UserError(
            f"MODEL.TIMM.WINDOW_SIZE is {cfg.MODEL.TIMM.WINDOW_SIZE}, but {architecture.name} has no attention that"
            " windows could hold: they need timm's VisionTransformer (no rotary embeddings, no stages). Set"
            " MODEL.TIMM.WINDOW_SIZE 0."
        )
    wanted = {"MODEL.TIMM.OUT_FEATURES": list(cfg.MODEL.TIMM.OUT_FEATURES)}
    wanted |= {} if facts.plain else {"MODEL.FPN.IN_FEATURES": list(cfg.MODEL.FPN.IN_FEATURES)}
    known = list(facts.maps)
    for key, names in wanted.items():
        if unknown := [name for name in names if name not in known]:
            raise UserError(f"{key} names {unknown[0]}, but {architecture.name} has {', '.join(known)}. Set {key} [].")
        known = names or known
    return architecture, facts


def pyramid_stride(facts: Facts) -> int:
    """The largest stride of a map, or the next power of two: what a pyramid can carry."""
    return 1 << (facts.stride - 1).bit_length()


class TimmBottomUp(Backbone):
    """The network in a detector. Its attribute bears the family's name, so its tensors are `timm....`.

    A plain transformer whose patches are no power of two wide, such as DINOv2's with 14 pixels, sees images that are
    shrunk so that its map has the next stride that is one: 14/16 of their side give a map of stride 16.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        settings = cfg.MODEL.TIMM
        architecture, facts = check_backbone(cfg)
        self.timm: Any = build_network(architecture, settings.DROP_PATH)
        self.windowed = facts.plain and settings.WINDOW_SIZE > 0
        names = list(facts.maps)
        self.out_features = list(settings.OUT_FEATURES) or (names[-1:] if facts.plain else names)
        if settings.WINDOW_SIZE:
            use_windows(self.timm, settings.WINDOW_SIZE, settings.GLOBAL_BLOCKS)
        self.shrink = facts.stride / pyramid_stride(facts)
        shapes = {name: facts.maps[name][1] for name in self.out_features}
        self.map_shapes = {
            name: Stage(shape.width, round(shape.stride / self.shrink)) for name, shape in shapes.items()
        }
        self.map_norms = nn.ModuleDict(
            {
                name: get_norm(settings.MAP_NORM, one.width)
                for name, one in shapes.items()
                if settings.MAP_NORM != "none"
            }
        )
        for name, parameter in self.timm.named_parameters():
            if name in facts.unused:  # no gradient would reach it, and data parallelism would wait for one
                parameter.requires_grad_(False)
        self._hold = _hold(self.timm, settings.NORM, int(cfg.MODEL.BACKBONE.FREEZE_AT))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (N,3,H,W), normalised -> {name: (N,C,H/stride,W/stride)}."""
        maps = self.timm.some_maps(self.shrunk(images), self.out_features)
        return {name: self.map_norms[name](value) if self.map_norms else value for name, value in maps.items()}

    def shrunk(self, images: Tensor) -> Tensor:
        """The images as the network sees them."""
        if self.shrink == 1:
            return images
        sides = [round(side * self.shrink) for side in images.shape[-2:]]
        return functional.interpolate(images, size=sides, mode="bilinear", antialias=True, align_corners=False)

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {name: ShapeSpec(channels=stage.width, stride=stage.stride) for name, stage in self.map_shapes.items()}

    def train(self, mode: bool = True) -> TimmBottomUp:
        super().train(mode)
        for norm in self._hold:
            norm.eval()
        return self


def _hold(network: Any, norm: str, freeze_at: int) -> list[nn.Module]:
    """Freeze the first layers; the normalisations whose statistics then stay as they are."""
    if norm == "SyncBN":
        from timm.layers import convert_sync_batchnorm

        convert_sync_batchnorm(network)
    coarse = layers(network, coarse=True) if freeze_at else {}
    frozen = {name for name, layer in coarse.items() if layer < freeze_at}
    for name, parameter in network.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    held: list[nn.Module] = []
    for name, module in network.named_modules():
        if isinstance(module, _NORMS) and (norm == "FrozenBN" or f"{name}.weight" in frozen):
            module.requires_grad_(False)
            held.append(module)
    return held


def layers(network: Any, coarse: bool = False) -> dict[str, int]:
    """Parameter -> its layer, from 0 for the stem; with `coarse` stages of a network that has some, else blocks."""
    from timm.models import group_parameters

    return dict(group_parameters(network, network.group_matcher(coarse=coarse), reverse=True))


def _top(retina: bool, last: str, channels: int) -> nn.Module:
    """The levels above a pyramid whose last one is `last`."""
    if retina:
        return LastLevelP6P7(channels, channels, in_feature=last)  # type: ignore[no-any-return]
    top = LastLevelMaxPool()
    top.in_feature = last
    return top  # type: ignore[no-any-return]


def _fpn(cfg: CfgNode, retina: bool) -> FPN:
    settings = cfg.MODEL.FPN
    network = TimmBottomUp(cfg)
    names = list(settings.IN_FEATURES) or list(network.map_shapes)
    last = f"p{network.map_shapes[names[-1]].stride.bit_length() - 1}"
    top = _top(retina, last, settings.OUT_CHANNELS)
    return FPN(network, names, settings.OUT_CHANNELS, settings.NORM, top, settings.FUSE_TYPE)


def _sfp(cfg: CfgNode, retina: bool) -> SimpleFeaturePyramid:
    settings = cfg.MODEL.FPN
    network = TimmBottomUp(cfg)
    name, stage = list(network.map_shapes.items())[-1]
    scales = [scale for scale in (4.0, 2.0, 1.0, 0.5) if stage.stride / scale >= (8 if retina else 4)]
    last = f"p{round(stage.stride / scales[-1]).bit_length() - 1}"
    top = _top(retina, last, settings.OUT_CHANNELS)
    # LN is ViTDet's; without any norm Detectron2's pyramid does not run.
    return SimpleFeaturePyramid(network, name, settings.OUT_CHANNELS, scales, top, settings.NORM or "LN")


@BACKBONE_REGISTRY.register()
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """A network with stages below a feature pyramid."""
    return _fpn(cfg, retina=False)


@BACKBONE_REGISTRY.register()
def build_timm_retinanet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """The same with RetinaNet's levels above it."""
    return _fpn(cfg, retina=True)


@BACKBONE_REGISTRY.register()
def build_timm_sfp_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SimpleFeaturePyramid:
    """A plain transformer below ViTDet's simple feature pyramid."""
    return _sfp(cfg, retina=False)


@BACKBONE_REGISTRY.register()
def build_timm_retinanet_sfp_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SimpleFeaturePyramid:
    """The same with RetinaNet's levels above it."""
    return _sfp(cfg, retina=True)
