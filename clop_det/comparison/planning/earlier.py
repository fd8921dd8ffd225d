"""Jobs that ran before under another config: why they count as other jobs, and run again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from clop_det.comparison.planning.jobs import JOB_CONFIG, NOT_CONTENT, Job
from clop_det.config.files import flatten
from clop_det.engine.run_folder import RESULTS_NAME

_SHOWN = 6  # keys


def earlier_runs(jobs: Mapping[str, Job], todo: Iterable[str], root: Path) -> list[str]:
    """Lines on finished runs in `root` that look like jobs of `todo` but have other configs; [] if there is none.

    A version of the package that knows one more key makes other jobs, too: that its default leaves the results as they
    were cannot be seen from the key. The line names the keys, so that the reader can tell.
    """
    count, keys = 0, dict[str, None]()
    for name in todo:
        job = jobs[name]
        if job.config is None or (root / name).exists():
            continue
        stem = name.rsplit("-", 1)[0]
        for folder in sorted(root.glob(f"{stem}-{'[0-9a-f]' * 8}")):
            if (folder / RESULTS_NAME).is_file():
                count += 1
                keys |= dict.fromkeys(_differing(folder / JOB_CONFIG, job))
                break
    if not count:
        return []
    named = ", ".join(list(keys)[:_SHOWN]) + (f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else "")
    return [f"{count} jobs ran here before under other configs and run again; what differs: {named or 'their input'}"]


def _differing(path: Path, job: Job) -> list[str]:
    try:
        before: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return []
    if not isinstance(before, dict):
        return []
    old = {key: _plain(value) for key, value in flatten(before)}
    new = {key: _plain(value) for key, value in flatten(yaml.safe_load(job.config.dump()) if job.config else {})}
    keys = [key for key in {**old, **new} if key not in NOT_CONTENT and old.get(key) != new.get(key)]
    return keys


def _plain(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)
