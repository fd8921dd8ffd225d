"""Folders that appear whole or not at all, built by one process while others wait."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from clop_det.errors import UserError
from clop_det.files import sync
from clop_det.locks import exclusive_lock


def cache_folder() -> Path:
    """Where generated and decoded data are kept: $CLOP_DET_CACHE, else ~/.cache/clop_det.

    Raises:
        UserError: there is no home folder of the user that `~` names.
    """
    given = os.environ.get("CLOP_DET_CACHE") or "~/.cache/clop_det"
    try:
        return Path(given).expanduser()
    except RuntimeError as error:
        raise UserError(f"the cache folder {given!r} has no home folder; set CLOP_DET_CACHE to another") from error


def cache_lock(folder: Path) -> AbstractContextManager[None]:
    """Held by the process that makes, or removes, a folder of the cache; waits while another process holds it."""
    remedy = "Make it writable or set CLOP_DET_CACHE to another folder."
    return exclusive_lock(folder.parent / f".{folder.name}.lock", remedy)


def build_once(folder: Path, build: Callable[[Path], None], resumable: bool = False) -> bool:
    """Make `folder` with `build(temporary folder)` unless it is there; returns whether it was built now.

    The work is done in a temporary folder beside it, under a lock, and renamed at the end: `folder` is complete or
    absent, whenever the process is killed. What a killed process left behind is removed by the next; or, if `build` is
    `resumable`, given to it again to go on with. A build that fails with an error leaves nothing.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    if folder.is_dir():
        return False
    with cache_lock(folder):
        if folder.is_dir():
            return False
        prefix = f".{folder.name}.building."
        partial = folder.parent / f"{prefix}partial"
        for left_over in folder.parent.glob(f"{prefix}*"):
            if not (resumable and left_over == partial):
                shutil.rmtree(left_over, ignore_errors=True)
        try:
            partial.mkdir(exist_ok=True)
            try:
                build(partial)
                _sync_tree(partial)
                partial.rename(folder)
            except Exception:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            except BaseException:  # the user's Ctrl-C is a kill
                if not resumable:
                    shutil.rmtree(partial, ignore_errors=True)
                raise
        except OSError as error:
            raise UserError(
                f"cannot write {folder}: {error.strerror or error}. Free space or set CLOP_DET_CACHE to another folder."
            ) from error
    return True


def _sync_tree(folder: Path) -> None:
    """Flush every file below `folder` to the disk, many at a time: a file system commits them together."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(sync, list(folder.rglob("*"))))
