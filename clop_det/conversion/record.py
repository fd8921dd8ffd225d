"""The record inside a converted file: where its weights come from and how a detector must use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clop_det.conversion.contents import Contents
from clop_det.conversion.conventions import IMAGENET_MEAN, IMAGENET_STD, describe
from clop_det.conversion.identify import Network
from clop_det.conversion.sources import Recognition
from clop_det.errors import UserError
from clop_det.files import sha256_of
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
        allow_stem_reinit: leave a 3x3 CIFAR stem out instead of refusing the file.
        trust_pickle: unpickle freely.
        channel_order, pixel_mean, pixel_std, stride_in_1x1: conventions of the source, where its own provenance does
            not say; None: RGB, ImageNet's mean and std (scale 0 to 255), stride in the 3x3 convolution.
    """

    source: str | None = None
    prefix: str | None = None
    arch: str | None = None
    verify: bool = True
    allow_stem_reinit: bool = False
    trust_pickle: bool = False
    channel_order: str | None = None
    pixel_mean: Sequence[float] | None = None
    pixel_std: Sequence[float] | None = None
    stride_in_1x1: bool | None = None


def make_record(path: Path, contents: Contents, found: Recognition, network: Network, wish: Options) -> dict[str, Any]:
    """The record that goes into the output: where the weights come from and how a detector must use them."""
    origin = contents.provenance
    drop_stem = network.stem == "cifar"
    record: dict[str, Any] = {
        "source_format": found.source,
        "source_reason": found.reason,
        "source_file": path.name,
        "source_sha256": sha256_of(path),
        **describe(network.architecture),
        "stem": network.stem,
        "stem_reinitialised": drop_stem,
        "conventions_known": {"channel_order", "pixel_mean", "pixel_std"} <= origin.keys(),
    }
    defaults = {
        "channel_order": "RGB",
        "pixel_mean": IMAGENET_MEAN,
        "pixel_std": IMAGENET_STD,
        "stride_in_1x1": False,
    }
    for name, default in defaults.items():
        record[name] = _convention(path, name, origin.get(name), getattr(wish, name), default)
    record.update({name: origin.get(name) for name in _OF_THE_RUN})
    record["pretraining"] = origin
    record["tensors_dropped"] = {reason: len(names) for reason, names in found.dropped.items()}
    # The file gets its name only after the proof, so this may be written before it.
    record["verified"] = wish.verify
    record["converter"] = collect_provenance()
    return record


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


def warnings_for(found: Recognition, record: dict[str, Any]) -> list[str]:
    """What a person should know about the conversion."""
    warnings = []
    if not record["verified"]:
        warnings.append("not verified (--no-verify); the provenance says so")
    if record["stem_reinitialised"]:
        warnings.append("the stem was left out; a detector starts with a random one")
    if not record["conventions_known"]:
        warnings.append(
            f"the file does not say how its images were fed; taken: {record['channel_order']}, mean"
            f" {record['pixel_mean']}, std {record['pixel_std']} (--channel-order, --pixel-mean, --pixel-std change it)"
        )
        if found.warning:
            warnings.append(found.warning)
    return warnings
