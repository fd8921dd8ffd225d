"""Whether a detector's configuration fits the weights it names, decided before training starts.

The rule: *conventions are set, architecture is checked.* How the network wants its input and where it strides
(`INPUT.FORMAT`, `MODEL.PIXEL_MEAN`, `MODEL.PIXEL_STD`, `MODEL.RESNETS.STRIDE_IN_1X1`) follows the weights where the
configuration still has Detectron2's default, and every such change is reported; a value that someone set and that
contradicts the weights is refused. Which network it is (`DEPTH`, `RES2_OUT_CHANNELS`, `WIDTH_PER_GROUP`, `NUM_GROUPS`)
is what the configuration is about, so it is never changed, only refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode, get_cfg

from clop_det.checkpoints.reading import read_checkpoint
from clop_det.conversion.contents import Contents, flatten
from clop_det.conversion.conventions import (
    ARCHITECTURE_KEYS,
    CONVENTION_KEYS,
    describe,
    get_key,
    same,
    set_key,
    wanted,
)
from clop_det.conversion.identify import identify
from clop_det.conversion.naming import has_caffe2_names, is_torchvision_name
from clop_det.conversion.sources import Root, find_roots, recognise
from clop_det.errors import UserError

_REMOTE = re.compile(r"[a-z0-9]+://")
_WITH_ROI_HEADS = ("GeneralizedRCNN", "PanopticFPN")


def apply_weights_provenance(cfg: CfgNode) -> list[str]:
    """Make `cfg` fit the weights that it names, or refuse.

    Args:
        cfg: configuration, frozen or not; changed in place (and left as frozen as it was).

    Returns:
        one line for the log per change or reservation; empty if nothing was to be done.

    Raises:
        UserError: the weights are unreadable or not in Detectron2's naming, a key contradicts them (both values and the
            remedy are named), or a C4 detector is to be built on a network without bottlenecks.
    """
    weights = str(cfg.MODEL.WEIGHTS)
    if not weights:
        return []
    if _REMOTE.match(weights):
        return [f"MODEL.WEIGHTS {weights} is not a local file, so its conventions are not checked"]
    path = Path(weights)
    contents = flatten(read_checkpoint(path), path)
    provenance, lines = provenance_of_weights(path, contents)
    frozen = cfg.is_frozen()
    cfg.defrost()
    try:
        _check_architecture(cfg, provenance, path)
        lines += _set_conventions(cfg, provenance, path)
    finally:
        if frozen:
            cfg.freeze()
    return lines


def provenance_of_weights(path: Path, contents: Contents) -> tuple[dict[str, Any], list[str]]:
    """What is known of a file that Detectron2 is to load: its own provenance, checked against its tensors.

    Returns:
        the provenance (with the architecture's fields, which the tensors show), and lines for the log.

    Raises:
        UserError: not in Detectron2's naming, or the provenance contradicts the tensors.
    """
    if has_caffe2_names(contents.tensors):
        return {}, [f"{path} has Caffe2's names: Detectron2 converts it, nothing about it is checked here"]
    roots = [root for root in find_roots(contents.tensors) if root.layout == "detectron2"]
    if not roots:
        raise UserError(
            f"MODEL.WEIGHTS {path} is not in Detectron2's naming ({_looks_like(contents)}); Detectron2 would load next"
            f" to nothing of it, silently. Convert it: python tools/convert_checkpoint.py {path} OUTPUT.pth"
        )
    own = dict(contents.provenance)
    lines = []
    if own.get("stem_reinitialised"):
        lines.append(f"{path} was converted without its stem: the detector starts with a random one")
    else:
        own, lines = _with_architecture(path, contents, roots[0], own)
    if "channel_order" not in own:
        lines.append(
            f"{path} does not say how its images were fed, so INPUT.FORMAT, MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and"
            " STRIDE_IN_1X1 are not checked. Torch-pretrained networks want RGB, Detectron2's defaults are BGR."
        )
    return own, lines


def _with_architecture(
    path: Path, contents: Contents, root: Root, own: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    state = {inner: contents.tensors[name] for name, inner in root.names.items() if is_torchvision_name(inner)}
    try:
        actual = describe(identify(state).architecture)
    except UserError as error:  # another normalisation, deformable convolutions: fine, but not ours to judge
        return own, [f"{path}: {error} Its architecture is not checked."]
    for name, value in actual.items():
        if own.get(name, value) != value:
            raise UserError(
                f"MODEL.WEIGHTS {path} says {name} = {own[name]} of itself, but its tensors are those of {name} ="
                f" {value}; the file was changed after it was converted. Convert its source again."
            )
    return {**own, **actual}, []


def _looks_like(contents: Contents) -> str:
    try:
        return f"recognised: {recognise(contents).source}"
    except UserError:
        return f"its first tensor is {next(iter(contents.tensors))}"


def conventions_of(cfg: CfgNode) -> dict[str, Any]:
    """The provenance's fields on input and architecture as `cfg` has them, for a detector's own checkpoints."""
    return {name: _plain(get_key(cfg, key)) for key, name in {**CONVENTION_KEYS, **ARCHITECTURE_KEYS}.items()}


def _plain(value: Any) -> Any:
    return [float(item) for item in value] if isinstance(value, list | tuple) else value


def conventions_known(provenance: Mapping[str, Any]) -> bool:
    """Whether a file says how its images were fed and where its network strides."""
    return all(provenance.get(name) is not None for name in CONVENTION_KEYS.values())


def contradictions(cfg: CfgNode, provenance: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, tuple[Any, Any]]:
    """Keys of `keys` whose value is not the weights': key -> (value of `cfg`, value of the weights)."""
    asked = wanted(provenance, keys)
    return {key: (get_key(cfg, key), value) for key, value in asked.items() if not same(get_key(cfg, key), value)}


def _check_architecture(cfg: CfgNode, provenance: Mapping[str, Any], path: Path) -> None:
    for key, (ours, theirs) in contradictions(cfg, provenance, ARCHITECTURE_KEYS).items():
        raise UserError(
            f"{key} is {ours}, but MODEL.WEIGHTS {path} is a {provenance.get('arch')} with {key} {theirs}. Set {key}"
            f" {theirs}, or give weights of the configured network."
        )
    if int(provenance.get("depth") or 50) < 50 and uses_res5_head(cfg):
        raise UserError(
            f"MODEL.ROI_HEADS.NAME is {cfg.MODEL.ROI_HEADS.NAME}, whose res5 is always made of bottlenecks, but"
            f" MODEL.WEIGHTS {path} is a {provenance.get('arch')}: it would load a mixture. Use an FPN configuration."
        )


def uses_res5_head(cfg: CfgNode) -> bool:
    """Whether the detector keeps the last stage in its box head (C4)."""
    # Detectron2's default head is Res5ROIHeads, in the configs of detectors that have no box head, too.
    return cfg.MODEL.META_ARCHITECTURE in _WITH_ROI_HEADS and "Res5" in str(cfg.MODEL.ROI_HEADS.NAME)


def _set_conventions(cfg: CfgNode, provenance: Mapping[str, Any], path: Path) -> list[str]:
    defaults = get_cfg()
    lines = []
    for key, (ours, theirs) in contradictions(cfg, provenance, CONVENTION_KEYS).items():
        if not same(ours, get_key(defaults, key)):
            raise UserError(
                f"{key} is {ours}, but MODEL.WEIGHTS {path} was trained with {theirs}. Set {key} {theirs}, or leave it"
                " out so that it follows the weights."
            )
        set_key(cfg, key, theirs)
        lines.append(f"{key} {ours} (Detectron2's default) -> {theirs}, as MODEL.WEIGHTS {path} was trained")
    return lines
