#!/usr/bin/env python3
"""Find what would go wrong in a fine-tuning run before it starts; `--help` lists the arguments."""

from clop_det.commands.common import run_tool
from clop_det.commands.doctor import main

if __name__ == "__main__":
    run_tool(main)
