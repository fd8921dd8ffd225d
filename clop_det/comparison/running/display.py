"""What a person sees while jobs run: events as lines, the state as one line that is redrawn (or repeated at times)."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TextIO

_REPEAT = 30.0  # seconds between state lines where the output is not a terminal


class Display:
    """Prints to `stream` (default: the standard output)."""

    def __init__(self, stream: TextIO | None = None, repeat: float = _REPEAT) -> None:
        self._stream = stream or sys.stdout
        self._terminal = self._stream.isatty()
        self._repeat = repeat
        self._last = time.monotonic()
        self._drawn = False

    def event(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        print(text, file=self._stream, flush=True)

    def status(self, text: str) -> None:
        """The present state."""
        if self._terminal:
            width = shutil.get_terminal_size((100, 24)).columns - 1
            self._stream.write("\r\x1b[2K" + (text if len(text) <= width else text[: width - 1] + "…"))
            self._stream.flush()
            self._drawn = True
        elif time.monotonic() - self._last >= self._repeat:
            self._last = time.monotonic()
            print(text, file=self._stream, flush=True)

    def clear(self) -> None:
        """Remove the state line."""
        if self._drawn:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
            self._drawn = False
