"""Any common checkpoint of a known family of networks -> a Detectron2 file that has proved itself on the target."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from clop_det.backbones.base import NETWORK_KEYS, Family
from clop_det.backbones.parts import Network
from clop_det.backbones.registry import BACKBONES, family_of_weights, find_architecture
from clop_det.checkpoints.folders import parts_of
from clop_det.checkpoints.integrity import note_digest, sidecar_of
from clop_det.checkpoints.reading import read_checkpoint
from clop_det.checkpoints.writing import staged, write_detectron2
from clop_det.conversion.contents import Contents, check_finite, flatten
from clop_det.conversion.heads import heads_around, no_heads
from clop_det.conversion.proof import Input, prove, stirred
from clop_det.conversion.record import Options, input_said, make_record, warnings_for
from clop_det.conversion.sources import Recognition, recognise
from clop_det.conversion.statements import facts_beside
from clop_det.errors import UserError
from clop_det.files import StrPath, sha256_of


@dataclass
class ConversionReport:
    """What was found, what was done with every tensor, and how exact the result is."""

    source: str
    reason: str
    family: str
    arch: str
    stem: str
    mapped: int
    dropped: dict[str, list[str]]
    parity: dict[str, dict[str, float]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    input: str = ""
    output: Path | None = None
    sha256: str = ""
    seconds: float = 0.0

    @property
    def worst_error(self) -> float:
        """Largest relative error of any stage on any target; NaN without proof."""
        return max((error for errors in self.parity.values() for error in errors.values()), default=float("nan"))

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON-able values, counts instead of names."""
        return {
            "source": self.source,
            "reason": self.reason,
            "family": self.family,
            "arch": self.arch,
            "stem": self.stem,
            "tensors_mapped": self.mapped,
            "tensors_dropped": {reason: len(names) for reason, names in self.dropped.items()},
            "parity": self.parity,
            "input": self.input,
            "warnings": self.warnings,
            "output": str(self.output),
            "sha256": self.sha256,
            "seconds": round(self.seconds, 3),
        }


def convert_checkpoint(
    source: StrPath,
    output: StrPath,
    *,
    source_format: str | None = None,
    prefix: str | None = None,
    arch: str | None = None,
    verify: bool = True,
    allow_stem_reinit: bool = False,
    trust_pickle: bool = False,
    network: str | None = None,
    drop: Sequence[str] = (),
    keep_heads: bool = False,
    **conventions: Any,
) -> ConversionReport:
    """Convert `source` to the Detectron2 file `output`; it is written only if the proof holds.

    The keyword arguments are the fields of `Options`, in which `source_format` is called `source`.

    Args:
        source: checkpoint of any source in the catalogue.
        output: a `.pth`, or a `.pkl` in the layout of Detectron2's model zoo.
        keep_heads: take over the rest of a detector, too, as it is: its pyramid, proposals and heads.

    Raises:
        UserError: unreadable or unsafe file, no or several networks, unexplained or missing tensors, a stem that
            detection cannot use, wrong architecture, contradictory conventions, or a failed proof (`ParityError`).
    """
    wish = Options(
        source_format, prefix, arch, verify, allow_stem_reinit, trust_pickle, network, tuple(drop), conventions
    )
    started = time.perf_counter()
    path, target = Path(source), checked_output(Path(source), Path(output), (".pth", ".pkl"))
    contents, found, held = open_checkpoint(path, wish)
    family = BACKBONES[found.family]
    state = _usable_stem(path, found, family, held, wish.allow_stem_reinit)
    record = make_record(path, contents, found, family, held, wish)
    report = report_on(found, held, state)
    report.warnings, report.input = warnings_for(found, record), input_said(record)
    heads = heads_around(contents, found.prefix, found.family) if keep_heads else {}
    if keep_heads and not heads:
        raise no_heads(path)
    with staged(target) as staging:
        _write_and_prove(staging, family, state, record, report, heads, as_pickle=target.suffix == ".pkl")
    _note_digest(path, record, report)
    report.output, report.sha256 = target, sha256_of(target)
    report.seconds = time.perf_counter() - started
    return report


def _note_digest(path: Path, record: dict[str, Any], report: ConversionReport) -> None:
    """On first sight of a source its digest is written beside it: the next time a change of its tensors is found."""
    parts = parts_of(path)
    one = parts.index is None
    new = [file for file in parts.files if not sidecar_of(file).exists()]
    if not all(note_digest(file, record["source_sha256"] if one else sha256_of(file)) for file in new):
        report.warnings.append(f"no digest could be written beside {path}, so a later change of it is not found")


def report_on(found: Recognition, network: Network, state: dict[str, Tensor]) -> ConversionReport:
    """The report on a file's network, of which `state` goes into the output."""
    arch, stem = network.architecture.name, network.stem
    return ConversionReport(found.source, found.reason, found.family, arch, stem, len(state), found.dropped)


def checked_output(source: Path, output: Path, suffixes: tuple[str, ...]) -> Path:
    """`output`, if it can be written without harm to the source.

    Raises:
        UserError: wrong ending, a folder, the source itself or a part of it, or a file in a source that is a folder.
    """
    if output.suffix not in suffixes:
        raise UserError(f"the output {output} must end in {' or '.join(suffixes)}; its reader chooses by the ending.")
    if output.is_dir():
        raise UserError(f"the output {output} is a folder; name a file in it.")
    parts = parts_of(source) if output.exists() and source.exists() else None
    if parts and any(output.samefile(file) for file in (*parts.files, *([parts.index] if parts.index else []))):
        raise UserError(f"the output {output} is the source itself; choose another name.")
    if source.is_dir() and output.parent.resolve() == source.resolve():
        raise UserError(
            f"the output {output} is in the folder of the source, which would then hold several checkpoints; choose"
            " another folder."
        )
    return output


def open_checkpoint(path: Path, wish: Options) -> tuple[Contents, Recognition, Network]:
    """Read a file, recognise its source and identify its network.

    Raises:
        UserError: unreadable or unsafe file, no or several networks, unexplained, missing or infinite tensors, another
            architecture than the one wanted or than the file says of itself.
    """
    contents = flatten(read_checkpoint(path, trust_pickle=wish.trust_pickle), path)
    contents.facts.update(facts_beside(path))
    try:
        family_of_weights(contents.provenance)  # refuses a family that is not registered
        expected = wish.arch or contents.provenance.get("arch")
        found = recognise(
            contents, source=wish.source, prefix=wish.prefix, network=wish.network, drop=wish.drop, arch=expected
        )
        network = BACKBONES[found.family].identify(found.state, _hints(contents, wish))
        check_finite(found.state)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if expected is not None and find_architecture(expected)[1].name != network.architecture.name:
        raise UserError(
            f"{path} is a {network.architecture.name}, not a {expected}; leave --arch out, or give the right file."
        )
    contradiction = "" if wish.arch else BACKBONES[found.family].contradiction(network.architecture, contents.facts)
    if contradiction:
        raise UserError(
            f"{path} says {contradiction}, but its tensors are those of {network.architecture.name}: what it was"
            f" trained as computes something else than the network that a detector would build. If you know that the"
            f" file is wrong about itself, say so with --arch {network.architecture.name}."
        )
    return contents, found, network


def _hints(contents: Contents, wish: Options) -> list[str]:
    """Names that the user, the provenance or the file's own words give to the network."""
    said = [value for key, value in contents.facts.items() if key.rpartition(".")[2] in NETWORK_KEYS]
    return [name for name in (wish.arch, contents.provenance.get("arch"), *said) if isinstance(name, str)]


def _usable_stem(path: Path, found: Recognition, family: Family, network: Network, allow: bool) -> dict[str, Tensor]:
    if not network.misfit:
        return found.state
    if not allow:
        raise UserError(
            f"{path} has a {network.misfit}: a detector would start with a random stem, silently."
            f" {family.stem_remedy}, or accept it with --allow-stem-reinit."
        )
    kept = {name: tensor for name, tensor in found.state.items() if not family.is_stem(name)}
    found.dropped[f"{network.stem} stem (the detector's own stays random)"] = [
        name for name in found.state if name not in kept
    ]
    return kept


def _write_and_prove(
    staging: Path,
    family: Family,
    state: dict[str, Tensor],
    record: dict[str, Any],
    report: ConversionReport,
    heads: dict[str, Tensor],
    as_pickle: bool,
) -> None:
    arch = report.arch
    source_input = Input(record["channel_order"], tuple(record["pixel_mean"]), tuple(record["pixel_std"]))
    conventions = {setting.field: record[setting.field] for setting in family.conventions}
    _write(staging, family, state, record, as_pickle, heads)
    if not record["verified"]:
        return
    report.parity = prove(staging, state, arch, source_input, **conventions)
    if not family.is_fresh(state):
        return
    # Normalisations as they were initialised hide mistakes, so the same names are proved once more with real ones.
    with tempfile.TemporaryDirectory() as folder:
        rehearsal, moved = Path(folder) / "stirred.pth", stirred(arch, state)
        _write(rehearsal, family, moved, record, as_pickle)
        again = prove(rehearsal, moved, arch, source_input, **conventions)
    report.parity.update({f"{target} ({family.stirred})": errors for target, errors in again.items()})


def _write(
    path: Path,
    family: Family,
    state: dict[str, Tensor],
    record: dict[str, Any],
    as_pickle: bool,
    heads: Mapping[str, Tensor] | None = None,
) -> None:
    renamed = {family.detectron2_name(name): tensor for name, tensor in state.items()}
    write_detectron2(path, {**renamed, **(heads or {})}, record, as_pickle=as_pickle)
