"""What a campaign mutates and reads."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Mutate = Callable[[random.Random, bytes], bytes]


@dataclass
class Target:
    """Attributes:
    files: files of a prepared folder, one of which is mutated each time, with how that is done.
    read: what is done with the folder then.
    """

    files: list[tuple[str, Mutate]]
    read: Callable[[Path], Any]
