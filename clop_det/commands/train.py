"""The command `train_net`."""

from __future__ import annotations

from clop_det.commands.common import argument_parser, load_config, run_tool
from clop_det.detection.run import prepare, worker
from clop_det.detection.run_data import keep_data
from clop_det.engine.launching import is_first_process, launch_workers, torchrun_restarts
from clop_det.engine.run_folder import own_run_folder
from clop_det.keys import DETECTION

EPILOG = """examples:
  python tools/train_net.py --config-file configs/detection/digits/faster_rcnn_R_18_FPN_digits.yaml \\
      MODEL.WEIGHTS converted.pth OUTPUT_DIR output/detect      # without MODEL.WEIGHTS: random initialisation
  python tools/train_net.py --config-file ... --resume          # go on after a kill, exactly
  python tools/train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/detect/model_final.pth
  python tools/train_net.py --config-file ... --eval-only --resume     # OUTPUT_DIR's last checkpoint
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argument_parser(
        "Fine-tune a detector and evaluate it: AP beside classification probes.", EPILOG, DETECTION
    )
    args = parser.parse_args(argv)
    cfg = load_config(args)
    args.resume = args.resume or (torchrun_restarts() and not args.eval_only)
    args.notes = prepare(cfg, args)
    if args.eval_only:
        keep_data(cfg, train=False, resume=False)
        launch_workers(worker, cfg, args)
        return 0
    with own_run_folder(cfg, args.resume, is_first_process(args)):
        keep_data(cfg, train=True, resume=args.resume)
        launch_workers(worker, cfg, args)
    return 0


if __name__ == "__main__":
    run_tool(main)
