#!/usr/bin/env python3
"""Convert a sample of every source and architecture, prove it, and write the table to docs/results/conversion.md.

The samples are random networks with real BatchNorm statistics, named and nested as each project saves them. The last
lines measure one ResNet-50 conversion as a user runs it: a process of its own, seconds and peak memory included.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from clop_det.backbones.residual import ARCHITECTURES
from clop_det.conversion.convert import ConversionReport, convert_checkpoint
from clop_det.conversion.export import export_checkpoint
from clop_det.files import write_text
from clop_det.provenance import collect_provenance

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))
from tests.conversion.samples import SAMPLES, random_network, write_sample  # noqa: E402  (tests/ is no package)
from tests.conversion.timm_samples import timm_rows  # noqa: E402

_INTRODUCTION = """\
# Conversions, proved

Written by `python benchmarks/conversion_table.py --all`. Every row is a file that was converted, loaded into
Detectron2's own backbones and run against the source network on the same images; the limit of the relative error is
1e-5. What is dropped is dropped for the reason named. {detectron2}, torch {torch}, commit {short}.

"""
_TIMM_INTRODUCTION = """\
# Networks of timm, converted and proved

Written by `python benchmarks/conversion_table.py --timm`. Every network is random, with random numbers where an
initialisation leaves one value. Each file was converted, loaded into the Detectron2 backbone that runs it (FPN: below a
feature pyramid; SFP: below ViTDet's simple feature pyramid), and run against the source at another resolution than
that of pretraining. ViT, SwinTransformer and RegNet are Detectron2's own models. "in float64" stands where the network
amplifies rounding above 1e-5, so that it was compared in double precision. {detectron2}, torch {torch}, commit {short}.

"""
_HEAD = (
    "| source | recognised as | architecture | mapped | dropped | worst relative error, res2 to res5 | targets |\n"
    "|---|---|---|---|---|---|---|\n"
)


def rows(folder: Path, archs: list[str]) -> Iterator[str]:
    """One table row a conversion: every source in the first two architectures, torchvision's in all."""
    for arch in archs:
        network = random_network(arch)
        for name in SAMPLES if arch in archs[:2] else ["torchvision"]:
            report = convert_checkpoint(write_sample(name, network, folder), folder / "out.pth")
            yield _row(name, report)
            print(f"{arch:>18}  {name:<30}  {report.worst_error:.1e}  {report.seconds:.1f} s", flush=True)
            if name == "torchvision":
                back = export_checkpoint(folder / "out.pth", folder / "back.safetensors")
                yield _row("and back, safetensors", back)


def _row(name: str, report: ConversionReport) -> str:
    dropped = ", ".join(f"{len(names)} {reason}" for reason, names in report.dropped.items()) or "none"
    targets = ", ".join(report.parity)
    cells = (name, report.source, report.arch, report.mapped, dropped, f"{report.worst_error:.1e}", targets)
    return f"| {' | '.join(map(str, cells))} |"


def measure_resnet50(folder: Path) -> str:
    """Seconds and peak memory of a ResNet-50 conversion with proof, start of the interpreter included."""
    source = write_sample("MoCo v2", random_network("resnet50"), folder)
    command = [sys.executable, str(_ROOT / "tools" / "convert_checkpoint.py"), str(source), str(folder / "out.pth")]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=_ROOT,
                   env={**os.environ, "PYTHONPATH": str(_ROOT)})  # fmt: skip
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    return (
        f"One ResNet-50 conversion from MoCo v2's format with proof on both targets, as a command: {seconds:.1f} s and"
        f" {peak:.2f} GB at its peak ({torch.get_num_threads()} threads, {platform.machine()})."
    )


def write_timm_table(output: Path) -> None:
    """The table of timm's networks, as sources and as Detectron2's own models."""
    with tempfile.TemporaryDirectory() as folder:
        table = "\n".join(timm_rows(Path(folder)))
    made = collect_provenance()
    text = _TIMM_INTRODUCTION.format(**made, short=(made["commit"] or "unknown")[:12])
    head = "| source | architecture | worst relative error of any map | proved on |\n|---|---|---|---|\n"
    write_text(output, f"{text}{head}{table}\n")
    print(f"table in {output}")


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=_ROOT / "docs" / "results" / "conversion.md")
    parser.add_argument("--archs", nargs="+", default=["resnet18", "resnet50"], choices=sorted(ARCHITECTURES))
    parser.add_argument("--all", action="store_true", help="torchvision's names in every architecture, and --timm")
    parser.add_argument("--timm", action="store_true", help="networks of timm alone, into conversion_timm.md")
    args = parser.parse_args()
    if args.timm or args.all:
        write_timm_table(args.output.with_name("conversion_timm.md"))
    if args.timm:
        return
    archs = args.archs + [arch for arch in ARCHITECTURES if args.all and arch not in args.archs]
    with tempfile.TemporaryDirectory() as folder:
        cost = measure_resnet50(Path(folder))
        table = "\n".join(rows(Path(folder), archs))
    made = collect_provenance()
    text = _INTRODUCTION.format(**made, short=(made["commit"] or "unknown")[:12]) + f"{_HEAD}{table}\n\n{cost}\n"
    write_text(args.output, text)
    print(cost, f"table in {args.output}", sep="\n")


if __name__ == "__main__":
    main()
