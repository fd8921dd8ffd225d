#!/usr/bin/env python3
"""Convert residual-network checkpoints of any common source to Detectron2, and back; `--help` lists the arguments."""

from clop_det.checkpoints.command import main
from clop_det.engine.cli import run_tool

if __name__ == "__main__":
    run_tool(main)
