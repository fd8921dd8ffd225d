"""The command `pretrain`."""

from __future__ import annotations

from clop_det.commands.common import argument_parser, load_config, run_tool
from clop_det.engine.launching import expected_world_size, is_first_process, launch_workers, torchrun_restarts
from clop_det.engine.run_folder import own_run_folder
from clop_det.keys import PRETRAINING
from clop_det.pretraining.data import record_split
from clop_det.pretraining.run import prepare, worker

EPILOG = """examples:
  python tools/pretrain.py --config-file configs/pretrain/resnet18_digits.yaml LOSS.NAME clop OUTPUT_DIR output/clop
  python tools/pretrain.py --config-file ... --resume                  # go on after a kill, exactly
  python tools/pretrain.py --config-file ... --num-gpus 8              # or torchrun --nproc-per-node 8
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argument_parser("Pretrain a network with a semi-supervised contrastive loss.", EPILOG, PRETRAINING)
    args = parser.parse_args(argv)
    cfg = load_config(args)
    args.resume = args.resume or torchrun_restarts()
    data = prepare(cfg, expected_world_size(args, cfg.MODEL.DEVICE))
    with own_run_folder(cfg, args.resume, is_first_process(args)):
        record_split(cfg, data)
        del data  # each worker opens its own
        launch_workers(worker, cfg, args)
    return 0


if __name__ == "__main__":
    run_tool(main)
