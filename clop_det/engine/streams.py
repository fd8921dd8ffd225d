"""Standard streams that outlive their reader: a closed pipe or a narrow alphabet costs the screen, not the run."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Any

_log = logging.getLogger(__name__)


class LastingStream:
    """A text stream; what cannot be written is dropped, from the first failure on.

    The descriptor then leads to the null device, so that what writes to it directly (child processes, C code, the
    interpreter's last flush) meets no error either.
    """

    def __init__(self, stream: Any, name: str) -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        """Write `text`; returns its length, dropped or not."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._lose(error)
        return len(text)

    def flush(self) -> None:
        """Flush what has been written."""
        try:
            self._stream.flush()
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _lose(self, error: OSError) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        with suppress(OSError, ValueError):
            os.dup2(null, self._stream.fileno())
        os.close(null)
        _log.warning("the standard %s is gone (%s); the log file goes on", self._name, error.strerror or error)


def keep_streams() -> None:
    """Make the standard output and error of this process lasting, in place; a second call changes nothing."""
    for number in range(3):  # a closed one would be the number of the next file that is opened
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name, attribute in (("output", "stdout"), ("error", "stderr")):
        stream = getattr(sys, attribute)
        if stream is None or isinstance(stream, LastingStream):
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace" if name == "output" else "backslashreplace")
        setattr(sys, attribute, LastingStream(stream, name))
