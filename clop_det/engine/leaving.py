"""How a process of a group ends: its last line, everything flushed, and no teardown of the interpreter.

The threads of gloo and NCCL may still hold tensors when the interpreter is torn down, and then abort the process
(SIGABRT) whose work is done; and a group that is destroyed while another rank sits in a collective waits for it. So a
process of a group runs its exit handlers, flushes and leaves by `os._exit`. torch is looked at only where it is loaded:
a command that refuses its arguments answers without it.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import threading
import traceback
from contextlib import suppress
from typing import Any, NoReturn

from clop_det.errors import UserError

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130
EXIT_STOPPED = 75  # EX_TEMPFAIL: "try again later", which here means --resume
GOES_ON = "--resume continues from the last checkpoint."
_GRACE = 20.0  # seconds for the exit handlers (loader workers, coverage, services)


class StopRequested(BaseException):
    """Raised after a stop signal: between two steps once the state has been saved, or by a loop within a step.

    Not an `Exception`, as KeyboardInterrupt is not: nothing that handles errors should take it for one.
    """


def under_torchrun() -> bool:
    """Whether torchrun (or another launcher with its environment variables) started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def leave(code: int) -> NoReturn:
    """End this process with `code`: exit handlers run, for a bounded time, and all that is buffered is written."""
    overdue = threading.Timer(_GRACE, os._exit, (code,))
    overdue.daemon = True
    overdue.start()
    with suppress(Exception):
        atexit._run_exitfuncs()
    leave_at_once(code)


def leave_at_once(code: int) -> NoReturn:
    """`leave` without the exit handlers, from any thread."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, or None
            stream.flush()
    with suppress(Exception):
        logging.shutdown()
    os._exit(code)


def code_of(error: BaseException, show_traceback: bool = False) -> tuple[int, str]:
    """Exit code of what ended a process of a group, and its last line without "error: " ("" if it has none).

    A traceback goes to the standard error where the program is to blame, or where one is asked for.
    """
    if isinstance(error, StopRequested):
        return EXIT_STOPPED, ""
    if isinstance(error, SystemExit):
        return (error.code if isinstance(error.code, int) else int(error.code is not None)), ""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED, "interrupted"
    if not isinstance(error, UserError) or show_traceback:
        traceback.print_exception(error)
    if isinstance(error, UserError):
        return EXIT_BAD_INPUT, message_of(error)
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, _lost_connections()) or "gloo" in str(error):
        return EXIT_FAILED, f"the connection to another rank is lost ({first}). {GOES_ON}"
    return EXIT_FAILED, f"{type(error).__name__}: {first}"


def _lost_connections() -> tuple[type[BaseException], ...]:
    distributed: Any = sys.modules.get("torch.distributed")
    return (distributed.DistError,) if distributed else ()


def message_of(error: BaseException) -> str:
    """The message of an error; of one that a loader's process raised, whose text is a traceback, that of its cause."""
    messages = re.findall(r"^clop_det\.errors\.UserError: (.*)", str(error), re.MULTILINE)
    return str(messages[-1]) if messages else str(error)  # those before it are its causes


def last_line(text: str) -> None:
    """Print "error: `text`" to the standard error, and write it to this process's log file if it has one."""
    print(f"error: {text}", file=sys.stderr, flush=True)
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, "%s", (text,), None)
    for handler in logging.getLogger("clop_det").handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream not in (sys.stdout, sys.stderr):
            with suppress(Exception):
                handler.handle(record)


def rank_name() -> str:
    """ "rank 1: " in one of several processes, else ""."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1:
        return f"rank {distributed.get_rank()}: "
    return f"rank {os.environ['RANK']}: " if int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ else ""
