"""What the commands share: their arguments, the config they name, and errors without a traceback.

Nothing here imports torch or Detectron2 before a command has accepted its arguments: `--help`, wrong arguments and a
missing file are answered at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TextIO

from clop_det.config.described import keys_help
from clop_det.config.files import ConfigFile, read_file, read_pairs
from clop_det.config.library import find_config
from clop_det.engine.leaving import (
    EXIT_BAD_INPUT,
    EXIT_FAILED,
    EXIT_STOPPED,
    GOES_ON,
    StopRequested,
    code_of,
    last_line,
    leave,
    message_of,
    rank_name,
    under_torchrun,
)
from clop_det.engine.streams import keep_streams
from clop_det.errors import UserError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from clop_det.engine.launching import Launch

_PORTS = 2**15 + 2**14  # Detectron2's rule: a port of each user's own


def plain_parser(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """A parser for `clop-det COMMAND` with --traceback, which `run_tool` looks for; texts stand as they are written."""
    parser = argparse.ArgumentParser(
        prog=f"clop-det {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error in the input, too")
    return parser


def argument_parser(command: str, description: str, epilog: str = "", stage: str = "") -> argparse.ArgumentParser:
    """The arguments of a run, named as Detectron2 names them: --config-file, --resume, --num-gpus, KEY VALUE ...

    `stage`: whose own config keys `--help` lists; "": none.
    """
    parser = plain_parser(command, description, f"{epilog}\n{keys_help(stage) if stage else ''}")
    add_config_arguments(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--num-gpus", type=int, default=1, metavar="N", help="GPUs of each machine (default 1)")
    parser.add_argument("--num-machines", type=int, default=1, metavar="N", help="machines (default 1)")
    parser.add_argument("--machine-rank", type=int, default=0, metavar="N", help="number of this machine, from 0")
    parser.add_argument(
        "--dist-url",
        default=f"tcp://127.0.0.1:{_PORTS + hash(os.getuid()) % 2**14}",
        metavar="URL",
        help="where the processes of several machines meet (default %(default)s)",
    )
    return parser


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --config-file and the KEY VALUE pairs."""
    parser.add_argument(
        "--config-file", default="", metavar="FILE", help="a YAML file, or a name that `clop-det config list` shows"
    )
    parser.add_argument(
        "opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides of the config, after all options"
    )


def find_config_of(args: argparse.Namespace) -> ConfigFile:
    """Read the file that the arguments name, and put its path into them; what can be refused at once is refused here.

    Raises:
        UserError: no config is given, there is none of that name, it is no safe YAML, or the overrides are no pairs.
    """
    if not args.config_file:
        raise UserError(
            "no config is given. Name one with --config-file: a YAML file, or a name that `clop-det config list` shows."
        )
    args.config_file = find_config(args.config_file)
    content = read_file(args.config_file)
    read_pairs(args.opts)
    return content


def load_config(args: argparse.Namespace, allow_imports: bool = True, out: TextIO | None = None) -> CfgNode:
    """The frozen config that the arguments ask for; UserError on bad input. Says (on `out`) what it imports."""
    from clop_det.config.imports import import_lines
    from clop_det.config.reading import read_config
    from clop_det.engine.launching import is_first_process

    cfg = read_config(args.config_file, args.opts or [], allow_imports=allow_imports)
    if is_first_process(launch_of(args)):
        for line in import_lines(cfg.IMPORTS):
            print(line, file=out, flush=True)
    return cfg


def launch_of(args: argparse.Namespace) -> Launch:
    """How the arguments ask for the run to be started; under a torchrun that starts groups anew it always resumes."""
    from clop_det.engine.launching import Launch, torchrun_restarts

    eval_only = getattr(args, "eval_only", False)
    return Launch(
        num_gpus=args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        resume=args.resume or (torchrun_restarts() and not eval_only),
        eval_only=eval_only,
        traceback=args.traceback,
    )


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
    if _is_of_started_process(error):  # it failed, and has said why, or died
        last_line(f"{error}. {GOES_ON}")
        return EXIT_FAILED
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        error = UserError(f"{error}. This process may not open more files; raise the limit (ulimit -n 4096).")
    if not isinstance(error, UserError) or "--traceback" in sys.argv:
        raise error
    last_line(message_of(error))
    return EXIT_BAD_INPUT


def _is_of_started_process(error: BaseException) -> bool:
    spawn = sys.modules.get("torch.multiprocessing.spawn")
    return spawn is not None and isinstance(error, spawn.ProcessExitedException)


def _say_stopped() -> None:
    print("stopped; the state is saved, --resume continues", file=sys.stderr)
