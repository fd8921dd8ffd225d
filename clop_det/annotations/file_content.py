"""The SHA-256 of a large file, remembered until the file changes.

Whether it has changed is told as Git tells it: by size, times and inode. The time of the inode's last change (ctime) is
set by the system alone, so that neither `touch` nor a copy that keeps its times can hide a change.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

from clop_det.data.building import cache_folder
from clop_det.errors import UserError
from clop_det.files import read_json, sha256_of, write_json

_SETTLED = 2.0  # seconds after which a file system's clock tells a later change from the last one


def content_sha256(path: Path) -> str:
    """SHA-256 of a file's content.

    Raises:
        OSError: it cannot be read.
    """
    status = os.stat(path)
    mark = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev]
    name = hashlib.sha256(os.path.abspath(path).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    try:
        kept = cache_folder() / "data_sets" / f"{name}.sha256.json"
        known = read_json(kept) if kept.is_file() else None
    except UserError:
        return sha256_of(path)
    if isinstance(known, dict) and known.get("mark") == mark and isinstance(known.get("sha256"), str):
        return str(known["sha256"])
    found = sha256_of(path)
    if time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED:
        try:
            write_json(kept, {"mark": mark, "sha256": found})
        except UserError:  # a convenience, not a result
            return found
    return found
