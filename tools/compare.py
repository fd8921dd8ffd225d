#!/usr/bin/env python3
"""Compare initialisations: pretrain, convert, fine-tune, probe, report; `--help` lists the arguments."""

from clop_det.commands.common import run_tool
from clop_det.commands.compare import main

if __name__ == "__main__":
    run_tool(main)
