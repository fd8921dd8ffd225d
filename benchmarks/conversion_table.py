#!/usr/bin/env python3
"""Convert a sample of every source and network, prove it, and write the table to docs/results/conversion.md.

    make benchmarks                                    # once: what the rows need, transformers among it
    python benchmarks/conversion_table.py --all
    python benchmarks/conversion_table.py --only swin  # some rows, without the page

The samples are random networks, with random numbers where an initialisation leaves one value, named and nested as each
project saves them. The last line measures one ResNet-50 conversion as a user runs it: a process of its own, processor
time and peak memory.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from clop_det.backbones.residual import ARCHITECTURES
from clop_det.conversion.convert import ConversionReport, convert_checkpoint
from clop_det.conversion.export import export_checkpoint
from clop_det.conversion.stock import convert_to_stock
from clop_det.files import write_text
from clop_det.provenance import collect_provenance

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))
from tests.conversion import timm_samples, transformers_samples  # noqa: E402  (tests/ is no package)
from tests.conversion.samples import SAMPLES, random_network, write_sample  # noqa: E402

_INTRODUCTION = """\
# Conversions, proved

Written by one run of `python benchmarks/conversion_table.py --all`. Every row is a file that was converted, loaded into
the Detectron2 backbone that runs the network, and run against the source network on the same images; the limit of the
relative error of any stage or block is 1e-5. FPN is a feature pyramid, C4 a detector without one, SFP ViTDet's simple
feature pyramid; ViT, SwinTransformer and RegNet are Detectron2's own models. Networks of timm see images of another
resolution than that of pretraining. "in float64" stands where a network amplifies rounding above 1e-5, so that it was
compared in double precision. What is dropped is dropped for the reason named. torchvision, transformers and timm made
the networks of their rows; the other files have the names under which their projects save networks. {detectron2},
{libraries}, commit {short}.

{summary}

| source | recognised as | network | mapped | dropped | worst relative error | proved on |
|---|---|---|---|---|---|---|
"""
_EVERY_SOURCE = "resnet18"  # the residual network of which there is a file of every source


@dataclass(frozen=True)
class Case:
    """One row: who saved the network, which it is, how the file is made in an empty folder and converted, with what."""

    source: str
    network: str
    write: Callable[[Path], Path]
    convert: Callable[[Path, Path], ConversionReport] = convert_checkpoint
    needs: str = "torch"


def _back(source: Path, output: Path) -> ConversionReport:
    convert_checkpoint(source, output)
    return export_checkpoint(output, output.with_name("back.safetensors"))


def _residual() -> Iterator[Case]:
    for arch in ARCHITECTURES:
        for name in SAMPLES if arch == _EVERY_SOURCE else ["torchvision"]:

            def write(folder: Path, name: str = name, arch: str = arch) -> Path:
                return write_sample(name, random_network(arch), folder)

            yield Case(name, arch, write)
            if name == "torchvision":
                yield Case("and back, safetensors", arch, write, _back)


def _timm() -> Iterator[Case]:
    def writer(make: Callable[[], Any]) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            torch.save(make(), folder / "source.pth")
            return folder / "source.pth"

        return write

    for name, unsaid in timm_samples.NETWORKS.items():
        write = writer(partial(timm_samples.bare, name))
        yield Case("timm", name, write, partial(convert_checkpoint, arch=f"timm:{name}" if unsaid else None))
    for source, make in timm_samples.SOURCES.items():
        yield Case(source, "", writer(make))
    for name in timm_samples.STOCK:
        yield Case("timm, to stock", name, writer(partial(timm_samples.bare, name)), convert_to_stock)


def _transformers() -> Iterator[Case]:
    for name in transformers_samples.NETWORKS:
        yield Case(f"transformers {name}", "", partial(transformers_samples.write, name), needs="transformers")


def cases() -> Iterator[Case]:
    """All rows."""
    yield from _residual()
    yield from _timm()
    yield from _transformers()


def _row(case: Case) -> tuple[str, ConversionReport]:
    """A line of the table, and the report."""
    with tempfile.TemporaryDirectory() as folder:
        report = case.convert(case.write(Path(folder)), Path(folder) / "out.pth")
    targets = ", ".join(report.parity)
    print(
        f"{report.arch:>40}  {case.source:<30}  {report.worst_error:.1e}  {targets}  {report.seconds:.1f} s", flush=True
    )
    dropped = ", ".join(f"{len(names)} {reason}" for reason, names in report.dropped.items()) or "none"
    cells = (case.source, report.source, report.arch, report.mapped, dropped, f"{report.worst_error:.1e}", targets)
    return f"| {' | '.join(map(str, cells))} |", report


def _summary(reports: list[ConversionReport]) -> str:
    networks, sources = {report.arch for report in reports}, {report.source for report in reports}
    text = f"{len(networks)} networks, {len(sources)} sources (by the second column), {len(reports)} conversions. The"
    return f"{text} largest error is {max(report.worst_error for report in reports):.1e}."


def _check_installed(chosen: list[Case]) -> None:
    for library in {case.needs for case in chosen}:
        if find_spec(library) is None:
            count = sum(case.needs == library for case in chosen)
            sys.exit(
                f"{library} is not installed, which {count} of {len(chosen)} rows need. Install what they need"
                " with `make benchmarks` or `pip install -e '.[bench]'`. --only TEXT prints rows without it."
            )


def measure_resnet50(folder: Path) -> str:
    """Processor time and peak memory of a ResNet-50 conversion with proof, start of the interpreter included.

    Call it first: what this process has in memory counts as its child's.
    """
    source = write_sample("MoCo v2", random_network("resnet50"), folder)
    command = [sys.executable, str(_ROOT / "tools" / "convert_checkpoint.py"), str(source), str(folder / "out.pth")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=_ROOT,
                   env={**os.environ, "PYTHONPATH": str(_ROOT)})  # fmt: skip
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (
        "One ResNet-50 conversion from MoCo v2's format with proof on both targets, as a command:"
        f" {used.ru_utime + used.ru_stime:.1f} s of processor time and {used.ru_maxrss / 1e6:.2f} GB at its peak"
        f" ({torch.get_num_threads()} threads, {platform.machine()})."
    )


def main() -> None:
    """Print the rows; with --all write the page, too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=_ROOT / "docs" / "results" / "conversion.md")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="every row, and the page")
    which.add_argument("--only", metavar="TEXT", help="print the rows whose source or network contains TEXT")
    args = parser.parse_args()
    chosen = [case for case in cases() if args.all or args.only in case.source or args.only in case.network]
    if not chosen:
        parser.error(f"no row has {args.only!r} in its source or network")
    _check_installed(chosen)
    cost = ""
    if args.all:
        with tempfile.TemporaryDirectory() as folder:
            print(cost := measure_resnet50(Path(folder)), flush=True)
    rows = [_row(case) for case in chosen]
    print(summary := _summary([report for _, report in rows]))
    if not args.all:
        return
    made = collect_provenance()
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "torchvision", "timm", "transformers"))
    text = _INTRODUCTION.format(**made, summary=summary, libraries=libraries, short=(made["commit"] or "unknown")[:12])
    write_text(args.output, text + "\n".join(line for line, _ in rows) + f"\n\n{cost}\n")
    print(f"table in {args.output}")


if __name__ == "__main__":
    main()
