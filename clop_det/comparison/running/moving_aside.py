"""Moves the run folders of jobs that run again out of the way: nothing is deleted."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from clop_det.comparison.names import ASIDE_FOLDER
from clop_det.comparison.running.launchers import LOCK_NAME
from clop_det.locks import exclusive_lock


def move_aside(names: Iterable[str], root: Path) -> Path | None:
    """Move the run folders `names` in `root` to a new folder in the comparison's `ASIDE_FOLDER`; None if none is there.

    Raises:
        UserError: a process still works in one of them; nothing has been moved then.
    """
    folders = [root / name for name in names if (root / name).is_dir()]
    if not folders:
        return None
    for folder in folders:
        busy = f"a process of an earlier start still works in {folder}. Wait for it, or end it."
        with exclusive_lock(folder / LOCK_NAME, "Wait for it, or end it.", busy):
            pass
    place = root.parent / ASIDE_FOLDER / time.strftime("%Y%m%d-%H%M%S")
    number = 1
    while place.exists():
        number += 1
        place = place.with_name(f"{place.name.split('_')[0]}_{number}")
    place.mkdir(parents=True)
    for folder in folders:
        folder.rename(place / folder.name)
    return place
