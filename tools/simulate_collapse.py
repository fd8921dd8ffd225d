#!/usr/bin/env python3
"""Learning rate against rank, as pictures, an animation and a table; `--help` lists the arguments."""

from clop_det.commands.common import run_tool
from clop_det.commands.simulate import main

if __name__ == "__main__":
    run_tool(main)
