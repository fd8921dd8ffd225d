"""Lock files: what only one process may do at a time. A killed holder releases its lock."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clop_det.errors import UserError

_log = logging.getLogger(__name__)
_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS}
_PAUSE = 0.1  # seconds between two tries


@contextmanager
def exclusive_lock(path: Path, remedy: str, busy: str = "", patience: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`; its folder is made. On a file system without locks: a warning, and no lock.

    Args:
        remedy: what to do if the file cannot be made.
        busy: what to say if another process holds it; empty: wait until it does not.
        patience: seconds before `busy` is said. A process forked by a killed holder has the lock until it leaves too.

    Raises:
        UserError: the lock file cannot be made, or another process holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"cannot write in {path.parent}: {error.strerror}. {remedy}") from error
    try:
        _take(descriptor, path, busy, patience)
        yield
    finally:
        os.close(descriptor)  # the lock goes with it


def _take(descriptor: int, path: Path, busy: str, patience: float) -> None:
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
            return
        except BlockingIOError as error:
            if time.monotonic() >= until:
                raise UserError(busy) from error
            time.sleep(_PAUSE)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            _log.warning("%s cannot be locked (%s): start nothing else that writes there", path, error.strerror)
            return
