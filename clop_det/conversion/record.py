"""The record inside a converted file: where its weights come from and how a detector must use them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clop_det.backbones.base import Family
from clop_det.backbones.parts import INPUT_SETTINGS, Network
from clop_det.checkpoints.folders import parts_of
from clop_det.conversion.contents import Contents
from clop_det.conversion.conventions import conventions_of_family
from clop_det.conversion.sources import Recognition, is_meant
from clop_det.conversion.statements import Statements, statements_of
from clop_det.errors import UserError
from clop_det.provenance import collect_provenance

# Fields of a pretraining run that the record repeats at the top, for tables.
_OF_THE_RUN = ("loss", "label_fraction", "seed", "commit", "config_sha256")


@dataclass(frozen=True)
class Options:
    """How to convert.

    Attributes:
        source: catalogue entry to take the file for; None: recognise it.
        prefix: the network to take, where a file holds several.
        arch: architecture that the file must be of; None: any.
        verify: prove the written file.
        allow_stem_reinit: leave a stem that a detector has no place for out instead of refusing the file.
        trust_pickle: unpickle freely.
        network: "teacher", "student" or "ema", where the file holds several.
        drop: patterns of names that someone knows to be no part of the backbone.
        conventions: of the source, where its own provenance does not say them: `channel_order`, `pixel_mean`,
            `pixel_std` (scale 0 to 255) and those of the family; absent or None: RGB, ImageNet's mean and std, and the
            family's default.
    """

    source: str | None = None
    prefix: str | None = None
    arch: str | None = None
    verify: bool = True
    allow_stem_reinit: bool = False
    trust_pickle: bool = False
    network: str | None = None
    drop: tuple[str, ...] = ()
    conventions: Mapping[str, Any] = field(default_factory=dict)


def make_record(
    path: Path, contents: Contents, found: Recognition, family: Family, network: Network, wish: Options
) -> dict[str, Any]:
    """The record that goes into the output: where the weights come from and how a detector must use them.

    Raises:
        UserError: a convention that the family does not have, or that contradicts the file.
    """
    origin = contents.provenance
    said = _statements(path, contents, family, wish)
    known = {**said.conventions, **{name: value for name, value in origin.items() if value is not None}}
    settings = {setting.field: setting for setting in conventions_of_family(family)}
    for name, value in wish.conventions.items():
        if value is not None and name not in settings:
            raise UserError(
                f"--{name.replace('_', '-')} says nothing about a {family.noun}, which {path} holds; leave it out."
            )
    record: dict[str, Any] = {
        "source_format": found.source,
        "source_reason": found.reason,
        "source_file": path.name,
        "source_sha256": parts_of(path).digest,
        **family.describe(network.architecture),
        "stem": network.stem,
        "stem_reinitialised": bool(network.misfit),
        "conventions_known": {setting.field for setting in INPUT_SETTINGS} <= known.keys(),
        "conventions_said": sorted(setting.field for setting in INPUT_SETTINGS if setting.field in known),
        "conventions_said_by": said.where,
        "network_chosen": wish.network,
        "left_out_by_hand": list(wish.drop),
        "notes": [*contents.notes, *([network.note] if network.note else [])],
    }
    for name, setting in settings.items():
        record[name] = _convention(path, name, known.get(name), wish.conventions.get(name), setting.default)
    record.update({name: origin.get(name) for name in _OF_THE_RUN})
    record["pretraining"] = origin
    record["tensors_dropped"] = {reason: len(names) for reason, names in found.dropped.items()}
    # The file gets its name only after the proof, so this may be written before it.
    record["verified"] = wish.verify
    record["converter"] = collect_provenance()
    return record


def _statements(path: Path, contents: Contents, family: Family, wish: Options) -> Statements:
    """What the file says in its own way; a file of this project says it in its provenance."""
    if {setting.field for setting in INPUT_SETTINGS} <= contents.provenance.keys():
        return Statements()
    kept = {
        name: tensor
        for name, tensor in contents.tensors.items()
        if not any(is_meant(name, pattern) for pattern in wish.drop)
    }
    try:
        return statements_of(kept, contents.facts, family)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _convention(path: Path, name: str, known: Any, given: Any, default: Any) -> Any:
    """The file's own word, else the user's, else the default; a user who contradicts the file is told so."""
    if isinstance(known, tuple | list):
        known = [float(value) for value in known]
    if isinstance(given, tuple | list):
        given = [float(value) for value in given]
    if known is not None and given is not None and known != given:
        raise UserError(
            f"{path} says {name} = {known} of itself, --{name.replace('_', '-')} says {given}; leave the option out."
        )
    value = known if known is not None else given if given is not None else default
    return list(value) if isinstance(value, tuple | list) else value


def input_said(record: Mapping[str, Any]) -> str:
    """How images were fed, in words, and what of the file says it; "" where the file does not say it in its own way."""
    by = record["conventions_said_by"]
    text = f"{record['channel_order']}, mean {record['pixel_mean']}, std {record['pixel_std']}"
    return f"{text}, as the file says ({by})" if by else ""


def warnings_for(found: Recognition, record: dict[str, Any]) -> list[str]:
    """What a person should know about the conversion."""
    warnings: list[str] = []
    if not record["verified"]:
        warnings.append("not verified (--no-verify); the provenance says so")
    if record["stem_reinitialised"]:
        warnings.append("the stem was left out; a detector starts with a random one")
    missing = [setting for setting in INPUT_SETTINGS if setting.field not in record["conventions_said"]]
    if missing and len(missing) < len(INPUT_SETTINGS):
        taken = ", ".join(f"{setting.label} {record[setting.field]}" for setting in missing)
        options = ", ".join(f"--{setting.field.replace('_', '-')}" for setting in missing)
        warnings.append(f"the file does not say the whole of how its images were fed; taken: {taken} ({options})")
    elif missing:
        warnings.append(
            f"the file does not say how its images were fed; taken: {record['channel_order']}, mean"
            f" {record['pixel_mean']}, std {record['pixel_std']} (--channel-order, --pixel-mean, --pixel-std change it)"
        )
        if found.warning:
            warnings.append(found.warning)
    return [*warnings, *record["notes"]]
