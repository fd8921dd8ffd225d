"""Whether a detector's configuration fits the weights it names, decided before training starts.

The rule: *conventions are set, architecture is checked.* How the network wants its input (`INPUT.FORMAT`,
`MODEL.PIXEL_MEAN`, `MODEL.PIXEL_STD`) and what else its family calls a convention follows the weights where the
configuration still has Detectron2's default, and every such change is reported; a value that someone set and that
contradicts the weights is refused. Which network it is, is what the configuration is about, so it is never changed,
only refused.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from clop_det.backbones.registry import family_of_config
from clop_det.conversion.conventions import (
    CONTRADICTS,
    FOLLOWS,
    Comparison,
    architecture_of_family,
    compare_with_weights,
    conventions_of_family,
    get_key,
    set_key,
)
from clop_det.conversion.weights import Weights, read_weights
from clop_det.errors import UserError

_REMOTE = re.compile(r"[a-z0-9]+://")


def apply_weights_provenance(cfg: CfgNode) -> list[str]:
    """Make `cfg` fit the weights that it names, or refuse.

    Args:
        cfg: configuration, frozen or not; changed in place (and left as frozen as it was).

    Returns:
        one line for the log per change or reservation; empty if nothing was to be done.

    Raises:
        UserError: the weights are unreadable or not in Detectron2's naming, a key contradicts them (both values and the
            remedy are named), or the detector would hold a part of such a network only.
    """
    name = str(cfg.MODEL.WEIGHTS)
    if not name:
        return []
    if _REMOTE.match(name):
        return [f"MODEL.WEIGHTS {name} is not a local file, so its conventions are not checked"]
    weights = read_weights(Path(name))
    lines = _reservations(weights)
    found = compare_with_weights(cfg, weights.provenance)
    check_carried(cfg, weights)
    for item in found:
        if item.verdict == CONTRADICTS:
            raise UserError(_contradiction(item, weights))
    if weights.family is not None:
        weights.family.check_detector(cfg)
    frozen = cfg.is_frozen()
    cfg.defrost()
    for item in found:
        if item.verdict == FOLLOWS:
            key, ours, theirs = item.setting.key, item.ours, item.theirs
            set_key(cfg, key, theirs)
            lines.append(
                f"{key} {ours} (Detectron2's default) -> {theirs}, as MODEL.WEIGHTS {weights.path} was trained"
            )
    if frozen:
        cfg.freeze()
    return lines


def check_carried(cfg: CfgNode, weights: Weights) -> None:
    """Refuse weights of another family of networks than the detector's.

    Raises:
        UserError: the two families, and MODEL.BACKBONE.NAME.
    """
    ours, theirs = family_of_config(cfg), weights.family
    if ours is not None and theirs is not None and ours is not theirs:
        raise UserError(
            f"MODEL.BACKBONE.NAME {cfg.MODEL.BACKBONE.NAME} builds a {ours.noun}, but MODEL.WEIGHTS {weights.path} is a"
            f" {theirs.noun}. Use a detection config of the weights' network, or weights of the configured one."
        )


def conventions_of(cfg: CfgNode) -> dict[str, Any]:
    """The provenance's fields on input and architecture as `cfg` has them, for a detector's own checkpoints."""
    family = family_of_config(cfg)
    settings = conventions_of_family(family) + architecture_of_family(family)
    fields = {setting.field: _plain(get_key(cfg, setting.key)) for setting in settings}
    return {"family": family.name, **fields} if family else fields


def _plain(value: Any) -> Any:
    return [float(item) for item in value] if isinstance(value, list | tuple) else value


def _contradiction(item: Comparison, weights: Weights) -> str:
    key, theirs = item.setting.key, item.theirs
    begin = f"{key} is {item.ours}, but MODEL.WEIGHTS {weights.path}"
    if item.architecture:
        return (
            f"{begin} is a {weights.provenance.get('arch')} with {key} {theirs}. Set {key} {theirs}, or give weights of"
            " the configured network."
        )
    return f"{begin} was trained with {theirs}. Set {key} {theirs}, or leave it out so that it follows the weights."


def _reservations(weights: Weights) -> list[str]:
    """Lines for the log on what cannot be checked; UserError: the file is not in Detectron2's naming."""
    path = weights.path
    if weights.others:
        return [f"{path} has {weights.others}'s names: Detectron2 converts it, nothing about it is checked here"]
    if not weights.converted:
        seen = (
            f"recognised: {weights.source.source}" if weights.source else f"its first tensor is {weights.first_tensor}"
        )
        raise UserError(
            f"MODEL.WEIGHTS {path} is not in Detectron2's naming ({seen}); Detectron2 would load next to nothing of it,"
            f" silently. Convert it: clop-det convert {path} OUTPUT.pth"
        )
    lines = []
    if weights.without_stem:
        lines.append(f"{path} was converted without its stem: the detector starts with a random one")
    if weights.unknown:
        lines.append(f"{path}: {weights.unknown} Its architecture is not checked.")
    if not weights.says_conventions:
        settings = conventions_of_family(weights.family)
        lines.append(
            f"{path} does not say how its images were fed, so {', '.join(setting.key for setting in settings)} are not"
            " checked. Torch-pretrained networks want RGB, Detectron2's defaults are BGR."
        )
    return lines
