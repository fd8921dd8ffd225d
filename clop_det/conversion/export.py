"""The way back: the backbone of a Detectron2 file under its own names (residual networks: torchvision's and timm's).

Tensors are copied bit by bit, and the written file is read back and proved against the Detectron2 file before it gets
its name.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clop_det.backbones.base import Family
from clop_det.backbones.parts import Network
from clop_det.backbones.registry import BACKBONES, families
from clop_det.checkpoints.folders import parts_of
from clop_det.checkpoints.reading import read_checkpoint
from clop_det.checkpoints.writing import staged, write_detectron2, write_named
from clop_det.conversion.contents import Contents, flatten
from clop_det.conversion.conventions import conventions_known, conventions_of_family
from clop_det.conversion.convert import ConversionReport, checked_output, open_checkpoint, report_on
from clop_det.conversion.proof import Input, ParityError, prove
from clop_det.conversion.record import Options
from clop_det.conversion.sources import recognise
from clop_det.errors import UserError
from clop_det.files import StrPath, sha256_of
from clop_det.provenance import collect_provenance


def namings() -> list[str]:
    """The values of `naming`, of all families."""
    return list(dict.fromkeys(naming for family in families() for naming in family.namings))


def export_checkpoint(
    source: StrPath,
    output: StrPath,
    *,
    naming: str = "torchvision",
    arch: str | None = None,
    verify: bool = True,
    trust_pickle: bool = False,
) -> ConversionReport:
    """Write the backbone of a Detectron2 checkpoint under its own names.

    Args:
        source: a converted file, a detector's checkpoint, or a Detectron2 `.pkl`.
        output: `.safetensors` (provenance in its metadata) or `.pth`.
        naming: "torchvision": a `.pth` is the bare state dict; "timm": it is `{"state_dict", "arch", "provenance"}`.
            The names are the same; the classifier is not part of either. Other families have their own.
        arch: architecture that the file must be of; None: any.
        verify: read the written file back, compare it bit by bit and stage by stage with the Detectron2 network.
        trust_pickle: unpickle freely.

    Raises:
        UserError: not a Detectron2 checkpoint, a naming that its family does not have, a convention that those names
            cannot carry, missing tensors, or a failed proof (`ParityError`).
    """
    started = time.perf_counter()
    if naming not in namings():
        raise UserError(f"--to {naming!r} is unknown; choose one of detectron2, {', '.join(namings())}.")
    path = Path(source)
    target = checked_output(path, Path(output), (".pth", ".safetensors"))
    wish = Options(source="detectron2", arch=arch, verify=verify, trust_pickle=trust_pickle)
    contents, found, network = open_checkpoint(path, wish)
    family = BACKBONES[found.family]
    if naming not in family.namings:
        raise UserError(f"{path} is a {family.noun}; choose --to {' or '.join(family.namings)}.")
    record = _record(path, contents, family, network, verify)
    report = report_on(found, network, found.state)
    if not conventions_known({**contents.provenance, "family": family.name}):
        report.warnings.append(f"the file does not say how its images were fed; {_assumed(family)} assumed")
    with staged(target) as staging:
        container = "safetensors" if target.suffix == ".safetensors" else "state_dict" if naming == "timm" else "flat"
        write_named(staging, found.state, record, container)
        if verify:
            report.parity = _prove_export(staging, family, found.state, record)
    report.output, report.sha256 = target, sha256_of(target)
    report.seconds = time.perf_counter() - started
    return report


def _assumed(family: Family) -> str:
    return ", ".join(f"{setting.field} {setting.default}" for setting in conventions_of_family(family))


def _record(path: Path, contents: Contents, family: Family, network: Network, verify: bool) -> dict[str, Any]:
    family.check_way_back(path, contents.provenance)
    defaults = {setting.field: setting.default for setting in conventions_of_family(family)}
    return {
        **{name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()},
        **contents.provenance,
        **family.describe(network.architecture),
        **{setting.field: setting.default for setting in family.conventions},
        "exported_from": path.name,
        "exported_from_sha256": parts_of(path).digest,
        "verified": verify,
        "converter": collect_provenance(),
    }


def _prove_export(
    written: Path, family: Family, state: Mapping[str, Tensor], record: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """Compare the written file, under its own names, with the Detectron2 network of the original tensors."""
    back = recognise(flatten(read_checkpoint(written), written)).state
    if back.keys() != state.keys() or not all(torch.equal(back[name], state[name]) for name in state):
        raise ParityError(f"the tensors of {written.name} are not those of the source. No file is left.")
    source_input = Input(record["channel_order"], tuple(record["pixel_mean"]), tuple(record["pixel_std"]))
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder) / "detectron2.pth"
        write_detectron2(original, {family.detectron2_name(name): tensor for name, tensor in state.items()}, record)
        return prove(original, back, str(record["arch"]), source_input)
