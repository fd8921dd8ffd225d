#!/usr/bin/env python3
"""Compare initialisations: pretrain, convert, fine-tune, probe, report; `--help` lists the arguments."""

from clop_det.comparison.cli import main
from clop_det.engine.cli import run_tool

if __name__ == "__main__":
    run_tool(main)
