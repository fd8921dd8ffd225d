"""Convert a residual-network checkpoint of any common source to Detectron2, and back; see docs/conversion.md."""

from clop_det.checkpoints.command import main
from clop_det.engine.cli import run_tool

if __name__ == "__main__":
    run_tool(main)
