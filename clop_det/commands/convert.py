"""The command `clop-det convert`."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from clop_det.commands.common import plain_parser
from clop_det.config.described import table_rows
from clop_det.config.imports import ENTRY_POINTS
from clop_det.engine.importing import without_collecting
from clop_det.errors import UserError

if TYPE_CHECKING:
    from clop_det.conversion.convert import ConversionReport

_INPUT = ("channel_order", "pixel_mean", "pixel_std")
_EPILOG = """\
sources: {}.
exit codes: 0 converted and proved; 2 refused, with the reason on the standard error and no output file."""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    names, conventions = _registered()
    made = plain_parser(
        "convert",
        "Convert a checkpoint to a Detectron2 file, proved on the real backbone; or back, with --to.",
        _EPILOG.format(", ".join(names["source"])),
    )
    made.add_argument(
        "source", type=Path, metavar="SOURCE", help="checkpoint: .pth, .pt, .ckpt, .pkl, .npz, .safetensors, a folder"
    )
    made.add_argument("output", type=Path, metavar="OUTPUT", help=".pth to write (or .pkl; with --to: .safetensors)")
    made.add_argument(
        "--to",
        choices=("detectron2", *names["naming"]),
        default="detectron2",
        help="naming to write (default: %(default)s); stock: Detectron2's own ViT, SwinTransformer or RegNet",
    )
    made.add_argument("--source", dest="source_format", metavar="NAME", help="take it for this source; see below")
    made.add_argument("--prefix", help="take the network under this prefix, where the file holds several")
    made.add_argument(
        "--network", choices=names["network"], help="take this network, where the file holds several that differ"
    )
    made.add_argument(
        "--drop",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave tensors out that are known to be no part of the backbone, e.g. out or 'neck.*'; may be repeated",
    )
    made.add_argument("--arch", metavar="NAME", help=f"refuse any other network; {', '.join(names['architecture'])}")
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
    for option, name, help_text in conventions:
        made.add_argument(option, dest=name, action="store_true", default=None, help=help_text)
    made.set_defaults(conventions=(*_INPUT, *(name for _, name, _ in conventions)))
    made.add_argument(
        "--imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module or file of yours that registers a backbone; may be repeated",
    )
    made.add_argument("--json", action="store_true", help="print the report as JSON")
    return made


def _registered() -> tuple[dict[str, list[str]], list[tuple[str, ...]]]:
    """Names by what they name, and (option, field, help) of the families' conventions.

    From the registries where they are loaded, or an installed package adds to them; else from the reference page.
    """
    pairs: list[tuple[str, ...]]
    conventions: list[tuple[str, ...]]
    if "clop_det.backbones.registry" in sys.modules or importlib.metadata.entry_points(group=ENTRY_POINTS):
        from clop_det.conversion import reference

        pairs, conventions = [*reference.names()], [*reference.conventions()]
    else:
        pairs = [tuple(row) for row in table_rows("conversion.md", 2)]
        conventions = [tuple(row) for row in table_rows("conversion.md", 3)]
    names: dict[str, list[str]] = {}
    for what, name in pairs:
        names.setdefault(what, []).append(name)
    return names, conventions


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def main(argv: list[str] | None = None) -> int:
    """Convert and print the report; returns the exit code."""
    args = parser().parse_args(argv)
    if not args.source.exists():
        raise UserError(f"cannot read checkpoint {args.source}: No such file or directory.")
    if args.imports:
        _import(args.imports, sys.stderr if args.json else sys.stdout)
    if args.arch is not None:
        from clop_det.backbones.registry import find_architecture

        find_architecture(args.arch, "--arch")
    report = _convert(args) if args.to in ("detectron2", "stock") else _export(args)
    print(json.dumps(report.as_dict(), indent=2) if args.json else text(report))
    return 0


def _import(entries: list[str], out: TextIO) -> None:
    from clop_det.config.build import register_built_in
    from clop_det.config.imports import bring_in, import_lines, resolved

    register_built_in()  # before, so that a name that is taken is refused there
    print(*import_lines(bring_in(resolved(entries, Path(), "--imports"))), sep="\n", file=out)


def _convert(args: argparse.Namespace) -> ConversionReport:
    with without_collecting():
        from clop_det import api

    stock = args.to == "stock"
    if stock and args.allow_stem_reinit:
        raise UserError("--allow-stem-reinit says nothing about Detectron2's own models; leave it out with --to stock.")
    names = ("source_format", "prefix", "network", "drop", "arch", "trust_pickle", *args.conventions)
    given = {name: getattr(args, name) for name in (names if stock else (*names, "allow_stem_reinit"))}
    call = api.convert_to_stock if stock else api.convert
    return call(args.source, args.output, verify=not args.no_verify, **given)


def _export(args: argparse.Namespace) -> ConversionReport:
    settings = ("prefix", "network", "drop", "allow_stem_reinit", *args.conventions)
    given = [_option(name) for name in settings if getattr(args, name)]
    if given or args.source_format not in (None, "detectron2"):
        raise UserError(
            f"{', '.join(given) or '--source'} says nothing about a Detectron2 file; leave it out with --to."
        )

    with without_collecting():
        from clop_det import api

    return api.export(
        args.source,
        args.output,
        naming=args.to,
        arch=args.arch,
        verify=not args.no_verify,
        trust_pickle=args.trust_pickle,
    )


def text(report: ConversionReport) -> str:
    """The report for people."""
    from clop_det.conversion.proof import TOLERANCE
    from clop_det.conversion.proof import table as parity_table

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
