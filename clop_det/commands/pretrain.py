"""The command `clop-det pretrain`."""

from __future__ import annotations

from clop_det.commands.common import argument_parser, find_config_of, launch_of, load_config, run_tool
from clop_det.engine.importing import without_collecting
from clop_det.keys import PRETRAINING

EPILOG = """examples:
  clop-det pretrain --config-file pretrain/resnet18_digits.yaml LOSS.NAME clop OUTPUT_DIR output/clop
  clop-det pretrain --config-file ... --resume                  # go on after a kill, exactly
  clop-det pretrain --config-file ... --num-gpus 8              # or torchrun --nproc-per-node 8 tools/pretrain.py ...
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argument_parser(
        "pretrain", "Pretrain a network with a semi-supervised contrastive loss.", EPILOG, PRETRAINING
    )
    args = parser.parse_args(argv)
    find_config_of(args)

    with without_collecting():
        from clop_det import api

    api.pretrain(load_config(args), launch=launch_of(args))
    return 0


if __name__ == "__main__":
    run_tool(main)
