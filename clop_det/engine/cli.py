"""The command line that the tools share: Detectron2's arguments, workers, and errors without a traceback."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import NoReturn

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser, launch
from detectron2.utils import comm
from torch import distributed
from torch.multiprocessing.spawn import ProcessRaisedException

from clop_det.engine.options import read_config
from clop_det.engine.stop import EXIT_STOPPED, StopRequested
from clop_det.errors import UserError

EXIT_BAD_INPUT = 2


def argument_parser(description: str, epilog: str = "") -> argparse.ArgumentParser:
    """Detectron2's argument parser (--config-file, --resume, --num-gpus, KEY VALUE ...) plus --traceback."""
    parser: argparse.ArgumentParser = default_argument_parser(epilog or " ")
    parser.description = description
    add_traceback_flag(parser)
    return parser


def add_traceback_flag(parser: argparse.ArgumentParser) -> None:
    """Add --traceback, which `run_tool` looks for, to a tool's own parser."""
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error in the input, too")


def load_config(args: argparse.Namespace) -> CfgNode:
    """The frozen config that the arguments ask for; UserError on bad input."""
    return read_config(args.config_file, args.opts or [])


def run_tool(main: Callable[[list[str] | None], int]) -> NoReturn:
    """Run a tool's `main(argv)` and leave with its exit code.

    Bad input (UserError) is one line on the standard error and exit code 2; a stop signal that was obeyed is exit code
    75, after which `--resume` continues.
    """
    try:
        code = main(None)
    except UserError as error:
        if "--traceback" in sys.argv:
            raise
        print(f"error: {error}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    except StopRequested:
        print("stopped; the state is saved, --resume continues", file=sys.stderr)
        code = EXIT_STOPPED
    except ProcessRaisedException as error:
        code = _worker_failure(error)
    sys.exit(code)


def launch_workers(
    worker: Callable[[CfgNode, argparse.Namespace], None], cfg: CfgNode, args: argparse.Namespace
) -> None:
    """Run `worker(cfg, args)` once per process.

    Under torchrun (RANK and WORLD_SIZE in the environment) this process is one of them; otherwise Detectron2's `launch`
    starts `--num-gpus` processes (on a machine without GPUs: CPU processes over gloo).
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        _join_torchrun()
        try:
            worker(cfg, args)
        finally:
            distributed.destroy_process_group()
        return
    launch(worker, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, args=(cfg, args))


def _join_torchrun() -> None:
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(local_rank)
    distributed.init_process_group("nccl" if on_gpu else "gloo", timeout=timedelta(minutes=30))
    # Detectron2 asks for the ranks of one machine in its own process group.
    comm.create_local_process_group(local_size)


def _worker_failure(error: Exception) -> int:
    """Exit code for an exception in a spawned worker; a UserError there is still one line."""
    match = re.search(r"clop_det\.errors\.UserError: (.*)", str(error))
    if match and "--traceback" not in sys.argv:
        print(f"error: {match.group(1)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    if "StopRequested" in str(error):
        return EXIT_STOPPED
    raise error
