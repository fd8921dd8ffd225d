#!/usr/bin/env python3
"""Find what would go wrong in a fine-tuning run before it starts; `--help` lists the arguments."""

from clop_det.doctor.command import main
from clop_det.engine.cli import run_tool

if __name__ == "__main__":
    run_tool(main)
