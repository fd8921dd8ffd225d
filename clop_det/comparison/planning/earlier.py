"""Jobs that ran before under another identity: why they count as other jobs, and run again."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from clop_det.comparison.names import JOB_CONFIG, JOB_NAME
from clop_det.comparison.planning.jobs import Job
from clop_det.engine.run_folder import RESULTS_NAME
from clop_det.errors import UserError
from clop_det.files import read_json

_SHOWN = 6  # keys


def earlier_runs(jobs: Mapping[str, Job], todo: Iterable[str], root: Path) -> list[str]:
    """Lines on finished runs in `root` that look like jobs of `todo` but have another identity; [] if there is none.

    The line names the keys and the input that differ, so that the reader can tell.
    """
    count, found = 0, dict[str, None]()
    for name in todo:
        if jobs[name].config is None or (root / name).exists():
            continue
        stem = name.rsplit("-", 1)[0]
        for folder in sorted(root.glob(f"{glob.escape(stem)}-{'[0-9a-f]' * 8}")):
            if (folder / RESULTS_NAME).is_file():
                count += 1
                found |= dict.fromkeys(_differing(folder, jobs[name]))
                break
    if not count:
        return []
    named = ", ".join(list(found)[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    return [f"{count} jobs ran here before under another identity and run again; what differs: {named}"]


def _differing(folder: Path, job: Job) -> list[str]:
    """Keys whose values differ where they count now, and names of input whose content does."""
    assert job.config is not None
    try:
        before: Any = yaml.safe_load((folder / JOB_CONFIG).read_text(encoding="utf-8"))
        reads = read_json(folder / JOB_NAME).get("reads")
        old = {key: _plain(value) for key, value in job.content(before if isinstance(before, dict) else {}).items()}
    except (OSError, ValueError, yaml.YAMLError, UserError, AttributeError, TypeError):
        return ["what they read"]
    new = {key: _plain(value) for key, value in job.content(yaml.safe_load(job.config.dump())).items()}
    keys = [key for key in {**new, **old} if old.get(key) != new.get(key)]
    if not isinstance(reads, dict):
        return [*keys, "how a version before this one named its jobs"]
    now = job.identity.reads
    return [*keys, *(name for name in {**now, **reads} if reads.get(name) != now.get(name))]


def _plain(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)
