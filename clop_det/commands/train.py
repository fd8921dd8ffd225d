"""The command `clop-det train`."""

from __future__ import annotations

from clop_det.commands.common import argument_parser, find_config_of, launch_of, load_config, run_tool
from clop_det.engine.importing import without_collecting
from clop_det.keys import DETECTION

EPILOG = """examples:
  clop-det train --config-file detection/digits/faster_rcnn_R_18_FPN_digits.yaml \\
      MODEL.WEIGHTS converted.pth OUTPUT_DIR output/detect      # without MODEL.WEIGHTS: random initialisation
  clop-det train --config-file ... --resume          # go on after a kill, exactly
  clop-det train --config-file ... --eval-only MODEL.WEIGHTS output/detect/model_final.pth
  clop-det train --config-file ... --eval-only --resume     # OUTPUT_DIR's last checkpoint
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argument_parser(
        "train", "Fine-tune a detector and evaluate it: AP beside classification probes.", EPILOG, DETECTION
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, train nothing")
    args = parser.parse_args(argv)
    find_config_of(args)

    with without_collecting():
        from clop_det import api

    run = api.evaluate if args.eval_only else api.finetune
    run(load_config(args), launch=launch_of(args))
    return 0


if __name__ == "__main__":
    run_tool(main)
