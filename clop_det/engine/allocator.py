"""Memory that a training step frees stays with the process, for the next step to use.

The C library gives blocks above a threshold (at most 32 MB on 64-bit Linux) back to the kernel as soon as they are
freed, and the kernel hands out zeroed pages, one fault at a time, when the next step asks again. Where the blocks
are kept, a step meets next to none (`tests/engine/test_allocator.py` counts them). What a run computes is untouched.
"""

from __future__ import annotations

import ctypes
import sys

# <malloc.h> of the GNU C library.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
NEVER = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed; True if it obeyed (only the GNU C library has the setting).

    The process then holds its peak memory to its end.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, NEVER) == 1
