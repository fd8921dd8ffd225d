#!/usr/bin/env python3
"""Convert residual-network checkpoints of any common source to Detectron2, and back; `--help` lists the arguments."""

from clop_det.commands.common import run_tool
from clop_det.commands.convert import main

if __name__ == "__main__":
    run_tool(main)
