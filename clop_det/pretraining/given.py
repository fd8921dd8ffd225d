"""PRETRAIN.FROM: the encoder's backbone starts from given weights instead of random ones."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from clop_det.backbones.parts import INPUT_SETTINGS
from clop_det.backbones.registry import BACKBONES, backbone_options, find_architecture
from clop_det.checkpoints.loading import some_of
from clop_det.conversion.conventions import get_key, same
from clop_det.conversion.convert import open_checkpoint
from clop_det.conversion.record import Options, make_record
from clop_det.errors import UserError
from clop_det.files import sha256_of

KEY = "PRETRAIN.FROM"
_log = logging.getLogger(__name__)


def load_given(backbone: nn.Module, cfg: CfgNode) -> None:
    """Give the backbone the weights of the checkpoint of any known source that PRETRAIN.FROM names, in place.

    Raises:
        UserError: see `open_checkpoint`; another network than ENCODER.* builds; other pixel statistics, another order
            of channels or another convention of the family than this config computes with.
    """
    path = Path(cfg.PRETRAIN.FROM)
    contents, found, network = open_checkpoint(path, Options())
    own, _ = find_architecture(cfg.ENCODER.ARCH)
    family = BACKBONES[found.family]
    if family is not own:
        raise UserError(f"{KEY} {path} is a {family.noun}, but ENCODER.ARCH is {cfg.ENCODER.ARCH}. Name a file of it.")
    _check_conventions(path, make_record(path, contents, found, family, network, Options()), cfg)
    state = backbone.state_dict()
    expected = {name: tensor for name, tensor in state.items() if family.is_own_name(name)}
    wrong = [name for name in {**expected, **found.state} if _shape(expected, name) != _shape(found.state, name)]
    if wrong:
        raise UserError(
            f"{KEY} {path} is a {network.architecture.name}{f' with {network.stem} stem' if network.stem else ''}, but"
            f" ENCODER.* builds another network: {len(wrong)} tensors differ in shape or are missing"
            f" ({some_of(wrong)}). Set ENCODER.ARCH and its options to those of the file."
        )
    backbone.load_state_dict({**state, **found.state})


def given_facts(cfg: CfgNode) -> dict[str, Any]:
    """What a checkpoint says of the weights that its run started from; nothing if they were random."""
    path = cfg.PRETRAIN.FROM
    return {"started_from": {"file": Path(path).name, "sha256": sha256_of(Path(path))}} if path else {}


def _check_conventions(path: Path, record: dict[str, Any], cfg: CfgNode) -> None:
    for setting in INPUT_SETTINGS:
        theirs, ours = record[setting.field], get_key(cfg, setting.key)
        if setting.field in record["conventions_said"] and not same(ours, theirs):
            raise UserError(
                f"{KEY} {path} was trained with {setting.label} {theirs}, but {setting.key} is {ours}. Set it to"
                " that of the file, or choose other weights."
            )
    unsaid = [s for s in INPUT_SETTINGS if s.field not in record["conventions_said"]]
    if unsaid:
        _log.warning(
            "%s %s does not say its %s; check %s",
            *(
                KEY,
                path,
                ", ".join(s.label for s in unsaid),
                ", ".join(f"{s.key} {get_key(cfg, s.key)}" for s in unsaid),
            ),
        )
    options = backbone_options(cfg)
    for setting in BACKBONES[record["family"]].conventions:
        ours = options.get(setting.field, setting.default)
        if not same(ours, record[setting.field]):
            raise UserError(
                f"{KEY} {path} computes with {setting.field} {record[setting.field]}, the encoder with {ours}: it would"
                " be another network. Choose other weights."
            )


def _shape(state: Any, name: str) -> Any:
    return tuple(state[name].shape) if name in state else None
