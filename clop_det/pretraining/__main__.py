"""`python -m clop_det.pretraining`: the same as tools/pretrain.py."""

from clop_det.engine.cli import run_tool
from clop_det.pretraining.cli import main

if __name__ == "__main__":
    run_tool(main)
