"""Proof that a Detectron2 file computes what its source computes: real backbones, the training's own loading path.

The family of the network says on which detectors. Every tensor of a target is first filled with NaN, so nothing that
was not loaded can pass, and is then compared with the source bit by bit. The outputs of all stages are compared because
names and shapes do not show a wrong channel order or stride placement (measured on ResNet-50: 0.30 at res2 for BGR;
exact at res2 and 0.12 to 0.19 behind it for the wrong stride).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from clop_det.backbones.base import Family
from clop_det.backbones.detectors import TargetDetector
from clop_det.backbones.parts import Backbone
from clop_det.backbones.registry import family_of_weights, find_architecture
from clop_det.checkpoints.loading import quiet_loading
from clop_det.checkpoints.reading import read_provenance
from clop_det.conversion.conventions import follow
from clop_det.conversion.loading import DetectorCheckpointer, backbone_keys
from clop_det.errors import UserError

TOLERANCE = 1e-5
_IMAGES = 2


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


def prove(
    path: Path, state: Mapping[str, Tensor], arch: str, source_input: Input, **conventions: Any
) -> dict[str, dict[str, float]]:
    """Load a written Detectron2 file into each target and compare it with the source network.

    Args:
        path: the file, as training will read it.
        state: the source's tensors under their own names; without stem where that was left out.
        arch: name of the architecture.
        source_input: how the source wants its images.
        conventions: of the family, as the source has them, e.g. `stride_in_1x1=True`.

    Returns:
        target -> stage -> relative error |a - b| / |b| over all elements (Frobenius norms).

    Raises:
        ParityError: a tensor was not loaded or differs, or an error above `TOLERANCE`.
        UserError: an unknown `arch`; see `DetectorCheckpointer.load`.
    """
    family, architecture = find_architecture(arch, "the architecture")
    reference = reference_network(arch, state, **conventions)
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(_IMAGES, 3, *family.proof_size(architecture), generator=generator) * 255
    borrowed = {name for name in reference.state_dict() if family.is_own_name(name) and name not in state}
    return {
        target: _compare(family, target, path, reference, rgb, source_input, borrowed)
        for target in family.targets(architecture)
    }


def table(parity: Mapping[str, Mapping[str, float]]) -> str:
    """The errors as lines of text."""
    return "\n".join(
        f"{target:<4}" + "".join(f"  {stage} {error:.1e}" for stage, error in errors.items())
        for target, errors in parity.items()
    )


def _compare(
    family: Family,
    target: str,
    path: Path,
    reference: Backbone,
    rgb: Tensor,
    source_input: Input,
    borrowed: Set[str],
) -> dict[str, float]:
    cfg, detector = _load(family, target, path)
    _check_tensors(family, target, detector, reference, borrowed)
    target_input = Input(cfg.INPUT.FORMAT, tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD))
    with torch.no_grad():
        # Torch trains on images of 0 to 1, Detectron2 on 0 to 255: compared as each really computes.
        expected = reference.maps(source_input.images(rgb, scale=1 / 255))
        actual = detector.stages(target_input.images(rgb))
    if actual.keys() != expected.keys():
        raise ParityError(
            f"{target}: the detector gives the stages {', '.join(actual)}, the source {', '.join(expected)}."
        )
    errors = {stage: relative_error(actual[stage], expected[stage]) for stage in expected}
    if not all(error <= TOLERANCE for error in errors.values()):  # NaN fails, too
        raise ParityError(
            f"the converted network differs from its source: {table({target: errors})} (limit {TOLERANCE:.0e})."
            f" {family.proof_hint} No file is left."
        )
    return errors


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """|actual - expected| / |expected| in Frobenius norms, float64; infinite where shapes differ or |expected| is 0."""
    if actual.shape != expected.shape:
        return float("inf")
    scale = expected.double().norm()
    return float((actual.double() - expected.double()).norm() / scale) if scale > 0 else float("inf")


def _load(family: Family, target: str, path: Path) -> tuple[CfgNode, TargetDetector]:
    provenance = read_provenance(path)
    cfg = target_config(target, provenance)
    detector = family.target_network(cfg).eval()
    state = detector.state_dict()
    for key in backbone_keys(detector, family):
        if not (provenance.get("stem_reinitialised") and family.part(key) in family.stem_parts):
            state[key].fill_(float("nan"))
    with quiet_loading():
        DetectorCheckpointer(detector).load(str(path))
    return cfg, detector


def target_config(target: str, provenance: Mapping[str, Any]) -> CfgNode:
    """The Detectron2 configuration of a target, e.g. "FPN", that follows the provenance.

    Raises:
        UserError: the provenance does not say which network it is, or its family is not registered.
    """
    family = family_of_weights(provenance)
    if family is None:
        raise UserError("the provenance says neither family nor architecture; convert the source again.")
    cfg = family.target_config(target)
    follow(cfg, provenance)
    return cfg


def _check_tensors(
    family: Family, target: str, detector: TargetDetector, reference: Backbone, borrowed: Set[str]
) -> None:
    source = reference.state_dict()
    loaded = detector.state_dict()
    for key in backbone_keys(detector, family):
        name = family.own_name(family.locate(key)[1])
        if name in borrowed:
            source[name].copy_(loaded[key])  # left out on purpose: both networks get the target's random stem
        elif not torch.equal(loaded[key], source[name]):
            raise ParityError(f"{target}: {key} is not what the source holds as {name}. No file is left.")


def reference_network(arch: str, state: Mapping[str, Tensor], **conventions: Any) -> Backbone:
    """The source's own network in evaluation mode; a stem that `state` lacks is NaN.

    Raises:
        ParityError: `state` lacks a tensor that is not of the stem.
    """
    family, _ = find_architecture(arch, "the architecture")
    network = family.reference(arch, **conventions)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name in state:
                tensor.copy_(state[name])
            elif family.is_own_name(name):
                if not family.is_stem(name):
                    raise ParityError(f"the source lacks {name}. No file is left.")
                tensor.fill_(float("nan"))
    return network.eval()


def stirred(arch: str, state: Mapping[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """A copy of `state` in which no branch is as it was initialised (see `Family.stir`)."""
    generator = torch.Generator().manual_seed(seed)
    network = reference_network(arch, {name: torch.nan_to_num(tensor.float()) for name, tensor in state.items()})
    find_architecture(arch, "the architecture")[0].stir(network, generator)
    return {name: tensor.clone() for name, tensor in network.state_dict().items() if name in state}
