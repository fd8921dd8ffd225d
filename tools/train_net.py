#!/usr/bin/env python3
"""Fine-tune and evaluate a detector; `--help` lists the arguments."""

from clop_det.detection.cli import main
from clop_det.engine.cli import run_tool

if __name__ == "__main__":
    run_tool(main)
