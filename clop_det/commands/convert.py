"""The command line of tools/convert_checkpoint.py."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from clop_det.backbones.parts import INPUT_SETTINGS
from clop_det.backbones.registry import architecture_names, families, find_architecture
from clop_det.commands.common import add_traceback_flag
from clop_det.conversion.convert import ConversionReport, convert_checkpoint
from clop_det.conversion.export import export_checkpoint, namings
from clop_det.conversion.proof import TOLERANCE
from clop_det.conversion.proof import table as parity_table
from clop_det.conversion.sources.catalogue import source_names
from clop_det.conversion.sources.drops import NETWORKS
from clop_det.errors import UserError

_EPILOG = f"""\
sources: {", ".join(source_names())}.
exit codes: 0 converted and proved; 2 refused, with the reason on the standard error and no output file."""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(
        prog="convert_checkpoint.py",
        description="Convert a checkpoint to a Detectron2 file, proved on the real backbone.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "source", type=Path, metavar="SOURCE", help="checkpoint: .pth, .pt, .ckpt, .pkl, .npz, .safetensors, a folder"
    )
    made.add_argument("output", type=Path, metavar="OUTPUT", help=".pth to write (or .pkl; with --to: .safetensors)")
    made.add_argument(
        "--to", choices=("detectron2", *namings()), default="detectron2", help="naming to write (default: %(default)s)"
    )
    made.add_argument("--source", dest="source_format", metavar="NAME", help="take it for this source; see below")
    made.add_argument("--prefix", help="take the network under this prefix, where the file holds several")
    made.add_argument(
        "--network", choices=tuple(NETWORKS), help="take this network, where the file holds several that differ"
    )
    made.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave tensors out that are known to be no part of the backbone, e.g. out or 'neck.*'; may be repeated",
    )
    made.add_argument("--arch", metavar="NAME", help=f"refuse any other network; {', '.join(architecture_names())}")
    made.add_argument(
        "--allow-stem-reinit", action="store_true", help="leave a stem out that no detector has, not refuse it"
    )
    made.add_argument(
        "--trust-pickle", action="store_true", help="let the file run programs; only if you trust its author"
    )
    made.add_argument("--no-verify", action="store_true", help="skip the proof; the provenance will say so")
    made.add_argument("--channel-order", choices=("RGB", "BGR"), help="of the source's images, if it does not say")
    for name in ("mean", "std"):
        made.add_argument(
            f"--pixel-{name}", type=float, nargs=3, metavar="X", help=f"the source's {name}, on the scale of 0 to 255"
        )
    for name, help_text in _own_conventions().items():
        made.add_argument(_option(name), action="store_true", default=None, help=help_text)
    made.add_argument("--json", action="store_true", help="print the report as JSON")
    add_traceback_flag(made)
    return made


def _own_conventions() -> dict[str, str]:
    """Field -> help of the conventions that families add: switches, off where the source does not say."""
    return {item.field: item.help for family in families() for item in family.conventions if item.help}


def _conventions() -> tuple[str, ...]:
    return (*(setting.field for setting in INPUT_SETTINGS), *_own_conventions())


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def main(argv: list[str] | None = None) -> int:
    """Convert and print the report; returns the exit code."""
    args = parser().parse_args(argv)
    if args.arch is not None:
        find_architecture(args.arch, "--arch")
    report = _convert(args) if args.to == "detectron2" else _export(args)
    print(json.dumps(report.as_dict(), indent=2) if args.json else text(report))
    return 0


def _convert(args: argparse.Namespace) -> ConversionReport:
    return convert_checkpoint(
        args.source,
        args.output,
        source_format=args.source_format,
        verify=not args.no_verify,
        prefix=args.prefix,
        network=args.network,
        drop=args.drop,
        arch=args.arch,
        allow_stem_reinit=args.allow_stem_reinit,
        trust_pickle=args.trust_pickle,
        **{name: getattr(args, name) for name in _conventions()},
    )


def _export(args: argparse.Namespace) -> ConversionReport:
    given = [
        _option(name)
        for name in ("prefix", "network", "drop", "allow_stem_reinit", *_conventions())
        if getattr(args, name)
    ]
    if given or args.source_format not in (None, "detectron2"):
        raise UserError(
            f"{', '.join(given) or '--source'} says nothing about a Detectron2 file; leave it out with --to."
        )
    return export_checkpoint(
        args.source,
        args.output,
        naming=args.to,
        arch=args.arch,
        verify=not args.no_verify,
        trust_pickle=args.trust_pickle,
    )


def text(report: ConversionReport) -> str:
    """The report for people."""
    dropped = ", ".join(f"{len(names)} {reason}" for reason, names in report.dropped.items()) or "none"
    lines = [
        f"source   {report.source}: {report.reason}",
        f"network  {report.arch}" + (f", {report.stem} stem" if report.stem else ""),
        f"tensors  {report.mapped} mapped; dropped: {dropped}",
    ]
    if report.input:
        lines.append(f"input    {report.input}")
    if report.parity:
        lines.append(f"proof    relative error on Detectron2's own backbones, limit {TOLERANCE:.0e}")
        lines += [f"         {line}" for line in parity_table(report.parity).splitlines()]
    lines += [f"warning  {warning}" for warning in report.warnings]
    lines.append(f"output   {report.output}  sha256 {report.sha256[:16]}...  {report.seconds:.1f} s")
    return "\n".join(lines)
