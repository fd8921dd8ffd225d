#!/usr/bin/env python3
"""Fine-tune and evaluate a detector; `--help` lists the arguments."""

from clop_det.commands.common import run_tool
from clop_det.commands.train import main

if __name__ == "__main__":
    run_tool(main)
