"""`python -m clop_det.detection`: the same as tools/train_net.py."""

from clop_det.detection.cli import main
from clop_det.engine.cli import run_tool

if __name__ == "__main__":
    run_tool(main)
