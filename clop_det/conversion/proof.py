"""Proof that a Detectron2 file computes what its source computes: real backbones, the training's own loading path.

The family of the network says on which detectors. Every tensor of a target is first filled with NaN, so nothing that
was not loaded can pass, and is then compared with the source bit by bit. The outputs of all stages are compared because
names and shapes do not show a wrong channel order or stride placement (measured on ResNet-50: 0.30 at res2 for BGR;
exact at res2 and 0.12 to 0.19 behind it for the wrong stride).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

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
_ROUNDING = 0.1  # an error below it may be rounding that a network amplifies; in float64 that is gone
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
        mean, std = (
            torch.tensor(value, dtype=rgb.dtype).view(1, 3, 1, 1) * scale for value in (self.pixel_mean, self.pixel_std)
        )
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
        target -> stage -> relative error |a - b| / |b| over all elements (Frobenius norms). A network that amplifies
        rounding is compared once more in double precision, and its target is then called "... in float64".

    Raises:
        ParityError: a tensor was not loaded or differs, or an error above `TOLERANCE`.
        UserError: an unknown `arch`; see `DetectorCheckpointer.load`.
    """
    family, architecture = find_architecture(arch, "the architecture")
    reference = reference_network(arch, state, **conventions)
    rgb = proof_images(family.proof_size(architecture))
    borrowed = {name for name in reference.state_dict() if family.is_own_name(name) and name not in state}
    return dict(
        _compare(family, target, path, reference, rgb, source_input, borrowed)
        for target in family.targets(architecture)
    )


def proof_images(size: tuple[int, int]) -> Tensor:
    """The images of a proof: RGB (N,3,H,W), 0 to 255, the same each time."""
    return torch.rand(_IMAGES, 3, *size, generator=torch.Generator().manual_seed(0)) * 255


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
) -> tuple[str, dict[str, float]]:
    cfg, detector = _load(family, target, path)
    _check_tensors(family, target, detector, reference, borrowed)
    target_input = Input(cfg.INPUT.FORMAT, tuple(cfg.MODEL.PIXEL_MEAN), tuple(cfg.MODEL.PIXEL_STD))
    runs = ((detector, detector.stages, target_input, 1.0), (reference, reference.maps, source_input, 1 / 255))
    target, errors = compare(target, rgb, *runs)
    check_errors(target, errors, family.proof_hint)
    return target, errors


# A network, how its maps are got, how it wants its images, and on which scale they are normalised: torch trains on
# images of 0 to 1, Detectron2 on 0 to 255, and each is run as it really computes.
Run = tuple[nn.Module, Callable[[Tensor], dict[str, Tensor]], Input, float]


def compare(name: str, rgb: Tensor, actual: Run, expected: Run) -> tuple[str, dict[str, float]]:
    """Relative errors by map of one network against another, under `name`.

    A network that amplifies rounding is compared once more in double precision, under "<name> in float64".

    Raises:
        ParityError: the two do not have the same maps.
    """

    def errors(images: Tensor) -> dict[str, float]:
        with torch.no_grad():
            ours, theirs = (maps(wanted.images(images, scale)) for _, maps, wanted, scale in (actual, expected))
        if ours.keys() != theirs.keys():
            raise ParityError(
                f"{name}: the detector gives the stages {', '.join(ours)}, the source {', '.join(theirs)}."
            )
        return {stage: relative_error(ours[stage], theirs[stage]) for stage in theirs}

    found = errors(rgb)
    if not all(error < _ROUNDING for error in found.values()) or max(found.values()) <= TOLERANCE:
        return name, found
    for network, *_ in (actual, expected):
        network.double()
    found = errors(rgb.double())
    for network, *_ in (actual, expected):
        network.float()
    return f"{name} in float64", found


def check_errors(name: str, errors: Mapping[str, float], hint: str) -> None:
    """Raise ParityError, with `hint`, unless every error is within `TOLERANCE`; NaN is not."""
    if not all(error <= TOLERANCE for error in errors.values()):
        raise ParityError(
            f"the converted network differs from its source: {table({name: errors})} (limit {TOLERANCE:.0e})."
            f" {hint} No file is left."
        )


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
