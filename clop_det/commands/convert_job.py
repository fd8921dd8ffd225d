"""The conversion as a job of its own: a process with a run folder and a results.json like every other."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from clop_det.commands.common import run_tool
from clop_det.config.build import register_again
from clop_det.conversion.convert import convert_checkpoint
from clop_det.engine.run_folder import write_results


def main(argv: list[str] | None = None) -> int:
    """Convert `source` to `output` (proved stage by stage) and leave results.json beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--format", default="", help="source format; empty: recognised by content")
    parser.add_argument("--imports", nargs="+", default=[], help="modules that register what the run was made of")
    parser.add_argument("--keep-heads", action="store_true", help="take over the heads of a detector, too")
    args = parser.parse_args(argv)
    register_again({"IMPORTS": args.imports})
    start = time.monotonic()
    report = convert_checkpoint(
        args.source, args.output, source_format=args.format or None, verify=True, keep_heads=args.keep_heads
    )
    figures = {"parity_error": report.worst_error}
    write_results(None, "conversion", figures, args.output.parent, time.monotonic() - start, report=report.as_dict())
    return 0


if __name__ == "__main__":
    run_tool(main)
