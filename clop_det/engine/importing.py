"""Imports of the frameworks without the garbage collector, which looks through all that they leave again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """Within, nothing is collected, and what is there at the end is never looked at again.

    For imports: nearly all that a million objects of torch's and Detectron2's modules are stays as long as the process.
    A fifth of the time of these imports went into looking for what might go. Before a fork it also keeps the pages of
    the imported modules shared. Only the first time in a process: later there is little left to import, and what a
    caller of several commands has left behind would be kept for good.
    """
    if gc.get_freeze_count():
        yield
        return
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if collects:
            gc.enable()
