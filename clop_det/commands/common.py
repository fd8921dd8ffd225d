"""The command line that the tools share: Detectron2's arguments, and errors without a traceback."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from typing import NoReturn, TextIO

from detectron2.config import CfgNode
from detectron2.engine import default_argument_parser
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from clop_det.config.imports import import_lines
from clop_det.config.reading import read_config
from clop_det.config.reference import keys_help
from clop_det.engine.launching import is_first_process
from clop_det.engine.stop import EXIT_STOPPED, StopRequested
from clop_det.errors import UserError

EXIT_BAD_INPUT = 2


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
    75, after which `--resume` continues.
    """
    try:
        code = main(None)
    except UserError as error:
        if "--traceback" in sys.argv:
            raise
        print(f"error: {_of_worker(error) or error}", file=sys.stderr)
        code = EXIT_BAD_INPUT
    except StopRequested:
        print("stopped; the state is saved, --resume continues", file=sys.stderr)
        code = EXIT_STOPPED
    except ProcessRaisedException as error:
        code = _worker_failure(error)
    except ProcessExitedException as error:
        code = _worker_death(error)
    sys.exit(code)


def _of_worker(error: Exception) -> str:
    """The message of the UserError in the text of a process's exception, which holds its traceback; empty: none."""
    messages = re.findall(r"^clop_det\.errors\.UserError: (.*)", str(error), re.MULTILINE)
    return str(messages[-1]) if messages else ""  # those before it are its causes


def _worker_failure(error: Exception) -> int:
    """Exit code for an exception in a spawned worker; a UserError there is still one line."""
    message = _of_worker(error)
    if message and "--traceback" not in sys.argv:
        print(f"error: {message}", file=sys.stderr)
        return EXIT_BAD_INPUT
    if "StopRequested" in str(error):
        return EXIT_STOPPED
    raise error


def _worker_death(error: ProcessExitedException) -> int:
    """Exit code for a spawned worker that left without an exception: it was stopped, or something killed it."""
    if error.exit_code == EXIT_STOPPED:
        print("stopped; the state is saved, --resume continues", file=sys.stderr)
        return EXIT_STOPPED
    print(f"error: {error}. --resume continues from the last checkpoint.", file=sys.stderr)
    return 1
