"""Which of a run folder's checkpoints is the newest: the iteration decides, for a copy has other times of day."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from clop_det.checkpoints.integrity import why_damaged
from clop_det.errors import UserError

# What PeriodicCheckpointer writes: a prefix and the iteration.
_PERIODIC = re.compile(r".*_(\d{7,})\.pth$")
_log = logging.getLogger(__name__)


def checkpoints_in(folder: Path) -> list[Path]:
    """The folder's checkpoints, readable or not, in no order; none if there is no such folder."""
    return [path for path in folder.glob("*.pth") if path.is_file() and path.name[0] != "."]


def is_periodic(path: Path) -> bool:
    """Whether the file is one of a series, of which only the last few are kept (model_final and model_best are not)."""
    return _PERIODIC.match(path.name) is not None


def newest_first(paths: Iterable[Path]) -> list[Path]:
    """Checkpoints by the iteration after which they were written, then by time of writing, newest first.

    The iteration stands in a periodic file's name and inside any other; a file without one comes last.
    """
    return sorted(paths, key=lambda path: (_iteration(path), path.stat().st_mtime_ns, path.name), reverse=True)


def newest_verified(folder: Path, parts: Sequence[str] = ()) -> Path | None:
    """The newest checkpoint that is what was written and holds a model and all `parts`; None if there is no checkpoint.

    Raises:
        UserError: there are checkpoints and none will do.
    """
    skipped = []
    for path in newest_first(checkpoints_in(folder)):
        reason = _why_not(path, parts)
        if reason is None:
            return path
        skipped.append(f"{path.name}: {reason}")
        _log.warning("Skipping checkpoint %s: %s", path, reason)
    if skipped:
        raise UserError(
            f"no checkpoint in {folder} can be resumed from ({'; '.join(skipped)}). Start afresh in another"
            " OUTPUT_DIR, or restore a good file."
        )
    return None


def _iteration(path: Path) -> int:
    named = _PERIODIC.match(path.name)
    if named:
        return int(named.group(1))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # whatever it is, `newest_verified` says so
        return -1
    recorded = content.get("iteration") if isinstance(content, dict) else None
    return recorded if isinstance(recorded, int) else -1


def _why_not(path: Path, parts: Sequence[str]) -> str | None:
    reason = why_damaged(path)
    if reason is not None:
        return reason
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # whatever it is, an older checkpoint may do
        return f"unreadable ({type(error).__name__})"
    if not isinstance(content, dict) or "model" not in content:
        return "holds no model"
    missing = [key for key in parts if key not in content]
    return f"holds no state of {', '.join(missing)}" if missing else None
