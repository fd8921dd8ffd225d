"""The command line that the tools share: Detectron2's arguments, and errors without a traceback."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from torch.multiprocessing.spawn import ProcessExitedException

from clop_det.config.imports import import_lines
from clop_det.config.reading import read_config
from clop_det.config.reference import keys_help
from clop_det.engine.launching import is_first_process, under_torchrun
from clop_det.engine.leaving import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    GOES_ON,
    code_of,
    last_line,
    leave,
    message_of,
    rank_name,
)
from clop_det.engine.stop import EXIT_STOPPED, StopRequested
from clop_det.engine.streams import keep_streams
from clop_det.errors import UserError


def argument_parser(description: str, epilog: str = "", stage: str = "") -> argparse.ArgumentParser:
    """Detectron2's argument parser (--config-file, --resume, --num-gpus, KEY VALUE ...) plus --traceback.

    `stage`: whose own config keys `--help` lists; "": none.
    """
    parser: argparse.ArgumentParser = default_argument_parser(f"{epilog}\n{keys_help(stage) if stage else ''}")
    parser.description = description
    add_traceback_flag(parser)
    return parser


def add_traceback_flag(parser: argparse.ArgumentParser) -> None:
    """Add --traceback, which `run_tool` looks for, to a tool's own parser."""
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error in the input, too")


def load_config(args: argparse.Namespace, allow_imports: bool = True, out: TextIO | None = None) -> CfgNode:
    """The frozen config that the arguments ask for; UserError on bad input. Says (on `out`) what it imports."""
    cfg = read_config(args.config_file, args.opts or [], allow_imports=allow_imports)
    if is_first_process(args):
        for line in import_lines(cfg.IMPORTS):
            print(line, file=out, flush=True)
    return cfg


def run_tool(main: Callable[[list[str] | None], int]) -> NoReturn:
    """Run a tool's `main(argv)` and leave with its exit code.

    Bad input (UserError) is one line on the standard error and exit code 2; a stop signal that was obeyed is exit code
    75, after which `--resume` continues. A standard output that is closed or too narrow costs what it would have shown.
    One of torchrun's processes ends at once, whatever the others wait for, with a line that names its rank.
    """
    keep_streams()
    try:
        code = main(None)
    except BaseException as error:
        if not under_torchrun():
            sys.exit(_ended(error))
        code, line = code_of(error, "--traceback" in sys.argv)
        if isinstance(error, StopRequested):
            _say_stopped()
        elif line:
            last_line(f"{rank_name()}{line}")
    if under_torchrun():
        leave(code)
    sys.exit(code)


def _ended(error: BaseException) -> int:
    """Exit code of a process that is alone, or started the others; what is no bad input is raised again."""
    if isinstance(error, StopRequested):
        _say_stopped()
        return EXIT_STOPPED
    if isinstance(error, ProcessExitedException):  # a started process failed, and has said why, or died
        last_line(f"{error}. {GOES_ON}")
        return EXIT_FAILED
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        error = UserError(f"{error}. This process may not open more files; raise the limit (ulimit -n 4096).")
    if not isinstance(error, UserError) or "--traceback" in sys.argv:
        raise error
    last_line(message_of(error))
    return EXIT_BAD_INPUT


def _say_stopped() -> None:
    print("stopped; the state is saved, --resume continues", file=sys.stderr)
