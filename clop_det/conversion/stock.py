"""Any checkpoint -> a file for a model that Detectron2 has itself: ViT, SwinTransformer, RegNet of stock configs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from clop_det.backbones.parts import Stock
from clop_det.backbones.registry import BACKBONES
from clop_det.checkpoints.loading import quiet_loading
from clop_det.checkpoints.writing import staged, write_detectron2
from clop_det.conversion.contents import check_finite
from clop_det.conversion.convert import ConversionReport, checked_output, open_checkpoint, report_on
from clop_det.conversion.proof import Input, ParityError, check_errors, compare, proof_images
from clop_det.conversion.record import Options, input_said, make_record, warnings_for
from clop_det.files import StrPath, sha256_of

STOCK = "stock"  # the value of --to


def convert_to_stock(
    source: StrPath,
    output: StrPath,
    *,
    source_format: str | None = None,
    prefix: str | None = None,
    arch: str | None = None,
    verify: bool = True,
    trust_pickle: bool = False,
    network: str | None = None,
    drop: Sequence[str] = (),
    **conventions: Any,
) -> ConversionReport:
    """Convert `source` to a file for Detectron2's own model of its network; it is written only if the proof holds.

    Such a model belongs to configs that are Python files (LazyConfig). They must feed images as the source had them;
    the record in the file, and the report, say how, and with which arguments the model was proved. The named
    arguments are the fields of `Options`, in which `source_format` is called `source`.

    Args:
        source: checkpoint of any source in the catalogue, or a converted file.
        output: a `.pth`.

    Raises:
        UserError: see `convert_checkpoint`; or Detectron2 has no model for the network.
    """
    wish = Options(source_format, prefix, arch, verify, False, trust_pickle, network, tuple(drop), conventions)
    started = time.perf_counter()
    path, target = Path(source), checked_output(Path(source), Path(output), (".pth",))
    contents, found, held = open_checkpoint(path, wish)
    family = BACKBONES[found.family]
    record = make_record(path, contents, found, family, held, wish)
    made = family.stock(held, found.state)
    record |= {"stock_model": made.model, "stock_arguments": made.arguments}
    report = report_on(found, held, made.tensors)
    for reason, names in made.dropped.items():
        report.dropped.setdefault(reason, []).extend(names)
    report.warnings, report.input = [*warnings_for(found, record), *_advice(made, record)], input_said(record)
    with staged(target) as staging:
        check_finite(made.tensors)
        write_detectron2(staging, made.tensors, record)
        if verify:
            source_input = Input(record["channel_order"], tuple(record["pixel_mean"]), tuple(record["pixel_std"]))
            size = made.size or family.proof_size(held.architecture)
            report.parity = _prove(staging, made, source_input, size)
    report.output, report.sha256 = target, sha256_of(target)
    report.seconds = time.perf_counter() - started
    return report


def _advice(made: Stock, record: dict[str, Any]) -> list[str]:
    arguments = ", ".join(f"{name}={value}" for name, value in made.arguments.items())
    lines = [
        f"for {made.model}({arguments})",
        f"the model must be fed as the source was: input_format {record['channel_order']}, pixel_mean"
        f" {record['pixel_mean']}, pixel_std {record['pixel_std']}",
    ]
    if made.added:
        lines.append(
            f"{len(made.added)} tensors that the source does not have were written as the model begins with them"
        )
    return lines


class _Detector(nn.Module):
    """Where a detector keeps its network, for the loading path that training takes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.backbone = network


class _Loader(DetectionCheckpointer):
    """Detectron2's checkpointer; it keeps what did not fit."""

    def _load_model(self, checkpoint: Any) -> Any:
        self.incompatible: Any = super()._load_model(checkpoint)
        return self.incompatible


def _prove(written: Path, made: Stock, source_input: Input, size: tuple[int, int]) -> dict[str, dict[str, float]]:
    """Relative error by map, after the file went through Detectron2's own loader into a model full of NaN."""
    for tensor in made.network.state_dict().values():
        if tensor.is_floating_point():
            tensor.fill_(float("nan"))
    with quiet_loading():
        loader = _Loader(_Detector(made.network))
        loader.load(str(written))
    incompatible = loader.incompatible
    missing = [name for name in incompatible.missing_keys if not name.endswith("num_batches_tracked")]
    if missing or incompatible.unexpected_keys or incompatible.incorrect_shapes:
        raise ParityError(
            f"{made.model}: {len(missing)} tensors are missing, {len(incompatible.unexpected_keys)} have no place"
            f" ({', '.join([*missing, *incompatible.unexpected_keys][:3])}). No file is left."
        )
    made.network.eval()
    name, errors = compare(
        made.model,
        proof_images(size),
        (made.network, made.read, source_input, 1.0),
        (made.source, made.expected, source_input, 1 / 255),
    )
    check_errors(name, errors, "Convert it without --to, and let the detector run the source's own network.")
    return {name: errors}
