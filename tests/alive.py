"""Whether a process still runs; what has ended and was not collected does not."""

from __future__ import annotations

from pathlib import Path


def alive(process: int) -> bool:
    """Whether the process of this id runs (Linux)."""
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return False
