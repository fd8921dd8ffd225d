"""The way back: the backbone of a Detectron2 file under torchvision's names, which timm shares.

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

from clop_det.checkpoints.reading import read_checkpoint
from clop_det.checkpoints.writing import staged, write_detectron2, write_named
from clop_det.conversion.compatibility import conventions_known
from clop_det.conversion.contents import Contents, flatten
from clop_det.conversion.conventions import IMAGENET_MEAN, IMAGENET_STD, describe
from clop_det.conversion.convert import ConversionReport, checked_output, open_checkpoint
from clop_det.conversion.naming import detectron2_name
from clop_det.conversion.proof import Input, ParityError, prove
from clop_det.conversion.record import Options
from clop_det.conversion.sources import recognise
from clop_det.errors import UserError
from clop_det.files import StrPath, sha256_of
from clop_det.provenance import collect_provenance

NAMINGS = ("torchvision", "timm")


def export_checkpoint(
    source: StrPath,
    output: StrPath,
    *,
    naming: str = "torchvision",
    arch: str | None = None,
    verify: bool = True,
    trust_pickle: bool = False,
) -> ConversionReport:
    """Write the backbone of a Detectron2 checkpoint under torchvision's names.

    Args:
        source: a converted file, a detector's checkpoint, or a Detectron2 `.pkl`.
        output: `.safetensors` (provenance in its metadata) or `.pth`.
        naming: "torchvision": a `.pth` is the bare state dict; "timm": it is `{"state_dict", "arch", "provenance"}`.
            The names are the same; the classifier is not part of either.
        arch: architecture that the file must be of; None: any.
        verify: read the written file back, compare it bit by bit and stage by stage with the Detectron2 network.
        trust_pickle: unpickle freely.

    Raises:
        UserError: not a Detectron2 checkpoint, a stride placement that torchvision does not have, missing tensors, or a
            failed proof (`ParityError`).
    """
    started = time.perf_counter()
    if naming not in NAMINGS:
        raise UserError(f"--to {naming!r} is unknown; choose one of detectron2, {', '.join(NAMINGS)}.")
    path = Path(source)
    target = checked_output(path, Path(output), (".pth", ".safetensors"))
    wish = Options(source="detectron2", arch=arch, verify=verify, trust_pickle=trust_pickle)
    contents, found, network = open_checkpoint(path, wish)
    record = _record(path, contents, describe(network.architecture), verify)
    report = ConversionReport(
        "detectron2", found.reason, network.architecture.name, network.stem, len(found.state), found.dropped
    )
    if not conventions_known(contents.provenance):
        report.warnings.append(
            "the file does not say how its images were fed nor where it strides; RGB and 3x3 assumed"
        )
    with staged(target) as staging:
        container = (
            "safetensors" if target.suffix == ".safetensors" else "flat" if naming == "torchvision" else "state_dict"
        )
        write_named(staging, found.state, record, container)
        if verify:
            report.parity = _prove_export(staging, found.state, record)
    report.output, report.sha256 = target, sha256_of(target)
    report.seconds = time.perf_counter() - started
    return report


def _record(path: Path, contents: Contents, network: dict[str, Any], verify: bool) -> dict[str, Any]:
    own = contents.provenance
    if own.get("stride_in_1x1"):
        raise UserError(
            f"{path} strides in the first 1x1 convolution of a bottleneck; torchvision's and timm's networks stride in"
            " the 3x3 one, so under their names it would compute something else. There is no way back for it."
        )
    return {
        "channel_order": "RGB",
        "pixel_mean": list(IMAGENET_MEAN),
        "pixel_std": list(IMAGENET_STD),
        **own,
        **network,
        "stride_in_1x1": False,
        "exported_from": path.name,
        "exported_from_sha256": sha256_of(path),
        "verified": verify,
        "converter": collect_provenance(),
    }


def _prove_export(written: Path, state: Mapping[str, Tensor], record: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Compare the written file, as a torchvision network, with the Detectron2 network of the original tensors."""
    back = recognise(flatten(read_checkpoint(written), written)).state
    if back.keys() != state.keys() or not all(torch.equal(back[name], state[name]) for name in state):
        raise ParityError(f"the tensors of {written.name} are not those of the source. No file is left.")
    source_input = Input(record["channel_order"], tuple(record["pixel_mean"]), tuple(record["pixel_std"]))
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder) / "detectron2.pth"
        write_detectron2(original, {detectron2_name(name): tensor for name, tensor in state.items()}, record)
        return prove(original, back, str(record["arch"]), source_input)
