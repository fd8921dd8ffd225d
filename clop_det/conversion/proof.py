"""Proof that a Detectron2 file computes what its source computes: real backbones, the training's own loading path.

Two targets: the FPN backbone, and the C4 backbone with the last stage in the box head (`Res5ROIHeads`), which only
bottleneck networks have. Every tensor of the target is first filled with NaN, so nothing that was not loaded can
pass, and is then compared with the source bit by bit. Stage outputs res2 ... res5 are compared because names and shapes
do not show a wrong channel order or stride placement (measured on ResNet-50: 0.30 at res2 for BGR; exact at res2 and
0.12 to 0.19 behind it for the wrong stride).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone
from detectron2.modeling.roi_heads import build_roi_heads
from torch import Tensor, nn

from clop_det.backbones import ARCHITECTURES, STAGES, Architecture, stage_features
from clop_det.checkpoints.loading import backbone_keys, quiet_loading
from clop_det.checkpoints.reading import read_provenance
from clop_det.checkpoints.saving import SafeCheckpointer
from clop_det.conversion.conventions import follow
from clop_det.conversion.naming import is_stem_name, torchvision_name
from clop_det.errors import UserError

TOLERANCE = 1e-5
_IMAGES, _HEIGHT, _WIDTH = 2, 160, 192


class ParityError(UserError):
    """The converted file does not compute what its source computes."""


@dataclass(frozen=True)
class Input:
    """How the source network wants its images: channel order, and mean and std on the scale of 0 to 255."""

    channel_order: str
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]

    def images(self, rgb: Tensor, scale: float = 1.0) -> Tensor:
        """RGB images (N,3,H,W), 0 to 255 -> what the network gets; computed on images of 0 to `scale` * 255."""
        ordered = rgb if self.channel_order == "RGB" else rgb.flip(1)
        mean, std = (torch.tensor(value).view(1, 3, 1, 1) * scale for value in (self.pixel_mean, self.pixel_std))
        return (ordered * scale - mean) / std


class _Detector(nn.Module):
    """The parts of a detector that hold backbone weights, under the names that a detector gives them."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.backbone = build_backbone(cfg)
        if cfg.MODEL.ROI_HEADS.NAME == "Res5ROIHeads":
            self.roi_heads = build_roi_heads(cfg, self.backbone.output_shape())

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        bottom_up: Any = getattr(self.backbone, "bottom_up", self.backbone)
        features: dict[str, Tensor] = dict(bottom_up(images))
        if hasattr(self, "roi_heads"):
            features["res5"] = self.roi_heads.res5(features["res4"])
        return features


def targets_of(architecture: Architecture) -> tuple[str, ...]:
    """Detectors that the network fits: FPN always; C4 only with bottlenecks, for its head is always made of these."""
    return ("FPN", "C4") if architecture.bottleneck else ("FPN",)


def prove(
    path: Path, state: Mapping[str, Tensor], arch: str, source_input: Input, *, stride_in_1x1: bool = False
) -> dict[str, dict[str, float]]:
    """Load a written Detectron2 file into each target and compare it with the source network.

    Args:
        path: the file, as training will read it.
        state: the source's tensors under torchvision's names; without stem where that was left out.
        arch: name of the architecture.
        source_input: how the source wants its images.
        stride_in_1x1: whether the source strides in the first convolution of a bottleneck.

    Returns:
        target -> stage -> relative error |a - b| / |b| over all elements (Frobenius norms).

    Raises:
        ParityError: a tensor was not loaded or differs, or an error above `TOLERANCE`.
        UserError: see `SafeCheckpointer.load`.
    """
    reference = reference_network(arch, state, stride_in_1x1)
    borrow_stem = "conv1.weight" not in state
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(_IMAGES, 3, _HEIGHT, _WIDTH, generator=generator) * 255
    return {
        target: _compare(target, path, reference, rgb, source_input, borrow_stem)
        for target in targets_of(ARCHITECTURES[arch])
    }


def table(parity: Mapping[str, Mapping[str, float]]) -> str:
    """The errors as lines of text."""
    return "\n".join(
        f"{target:<4}" + "".join(f"  {stage} {errors[stage]:.1e}" for stage in STAGES)
        for target, errors in parity.items()
    )


def _compare(
    target: str, path: Path, reference: Any, rgb: Tensor, source_input: Input, borrow_stem: bool
) -> dict[str, float]:
    cfg, detector = _load(target, path)
    _check_tensors(target, detector, reference, borrow_stem)
    target_input = Input(cfg.INPUT.FORMAT, tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD))
    with torch.no_grad():
        # Torch trains on images of 0 to 1, Detectron2 on 0 to 255: compared as each really computes.
        expected = stage_features(reference, source_input.images(rgb, scale=1 / 255))
        actual = detector.stages(target_input.images(rgb))
    errors = {stage: relative_error(actual[stage], expected[stage]) for stage in STAGES}
    if not all(error <= TOLERANCE for error in errors.values()):  # NaN fails, too
        raise ParityError(
            f"the converted network differs from its source: {table({target: errors})} (limit {TOLERANCE:.0e})."
            " Wrong from res2 on: channel order or normalisation; only from res3 on: stride placement"
            " (--stride-in-1x1); elsewhere: tensors. No file is left."
        )
    return errors


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """|actual - expected| / |expected| in Frobenius norms, float64; infinite where shapes differ or |expected| is 0."""
    if actual.shape != expected.shape:
        return float("inf")
    scale = expected.double().norm()
    return float((actual.double() - expected.double()).norm() / scale) if scale > 0 else float("inf")


def _load(target: str, path: Path) -> tuple[CfgNode, _Detector]:
    provenance = read_provenance(path)
    cfg = target_config(target, provenance)
    detector = _Detector(cfg).eval()
    keys = backbone_keys(detector)
    state = detector.state_dict()
    for key in keys:
        if not (provenance.get("stem_reinitialised") and ".stem." in key):
            state[key].fill_(float("nan"))
    with quiet_loading():
        SafeCheckpointer(detector).load(str(path))
    return cfg, detector


def target_config(target: str, provenance: Mapping[str, Any]) -> CfgNode:
    """A Detectron2 configuration of a target ("FPN" or "C4") that follows the provenance."""
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    if target == "FPN":
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
        cfg.MODEL.RESNETS.OUT_FEATURES = list(STAGES)
        cfg.MODEL.FPN.IN_FEATURES = list(STAGES)
        cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    else:
        cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
        cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4"]
        cfg.MODEL.ROI_HEADS.NAME = "Res5ROIHeads"
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
    follow(cfg, provenance)
    return cfg


def _check_tensors(target: str, detector: _Detector, reference: Any, borrow_stem: bool) -> None:
    source = reference.state_dict()
    loaded = detector.state_dict()
    for key in backbone_keys(detector):
        short = key.split("roi_heads.")[-1].split("bottom_up.")[-1].split("backbone.")[-1]
        name = torchvision_name(short)
        if borrow_stem and is_stem_name(name):
            source[name].copy_(loaded[key])  # left out on purpose: both networks get the target's random stem
        elif not torch.equal(loaded[key], source[name]):
            raise ParityError(f"{target}: {key} is not what the source holds as {name}. No file is left.")


def reference_network(arch: str, state: Mapping[str, Tensor], stride_in_1x1: bool = False) -> Any:
    """The source as a torchvision network in evaluation mode; a stem that `state` lacks is NaN.

    Raises:
        ParityError: `state` lacks a tensor that is not of the stem.
    """
    with torch.device("meta"):
        network = getattr(torchvision.models, arch)(weights=None)
    network.fc = nn.Identity()
    network.to_empty(device="cpu")
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name in state:
                tensor.copy_(state[name])
            elif is_stem_name(name) and tensor.is_floating_point():
                tensor.fill_(float("nan"))
            elif tensor.is_floating_point():
                raise ParityError(f"the source lacks {name}. No file is left.")
    if stride_in_1x1:
        move_strides(network)
    return network.eval()


def has_trivial_statistics(state: Mapping[str, Tensor]) -> bool:
    """Whether some normalisation is as it was initialised (mean 0 and variance 1, or scale 0), as in an untrained net.

    Such layers hide mistakes: a branch scaled by zero computes nothing, whatever its convolutions and strides are.
    """
    for name, tensor in state.items():
        layer = name.removesuffix(".running_mean")
        if layer == name or f"{layer}.running_var" not in state:
            continue
        fresh = not bool(tensor.any()) and bool((state[f"{layer}.running_var"] == 1).all())
        if fresh or not bool(state[f"{layer}.weight"].any()):
            return True
    return False


def stirred(arch: str, state: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """A copy of `state` whose normalisations have random scales and shifts and the statistics of random images."""
    generator = torch.Generator().manual_seed(seed)
    network = reference_network(arch, {name: torch.nan_to_num(tensor.float()) for name, tensor in state.items()})
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(layer.bias, 0.0, 0.1, generator=generator)
            layer.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64, generator=generator))
    return {name: tensor.clone() for name, tensor in network.state_dict().items() if name in state}


def move_strides(network: nn.Module) -> None:
    """Move each bottleneck's stride from its 3x3 to its first 1x1 convolution (Caffe's placement), in place."""
    for block in network.modules():
        if isinstance(block, torchvision.models.resnet.Bottleneck):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
