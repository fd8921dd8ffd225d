"""The look into a finished fine-tuning as a job of its own: the command line of `running.inspection`."""

from __future__ import annotations

import argparse
from pathlib import Path

from clop_det.commands.common import run_tool
from clop_det.comparison.running.inspection import inspect_run


def main(argv: list[str] | None = None) -> int:
    """Inspect the run folder `run`, leave examples.json, its images and results.json in `output`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--examples", type=int, default=4, help="test images")
    parser.add_argument("--weights", default="", help="what the run started from; empty: random weights")
    args = parser.parse_args(argv)
    inspect_run(args.run, args.output, args.examples, args.weights)
    return 0


if __name__ == "__main__":
    run_tool(main)
