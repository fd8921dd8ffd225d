"""One job = one ordinary run folder, named by what it is and by the content that determines its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from clop_det.comparison.names import JOB_CONFIG, JOB_NAME
from clop_det.comparison.planning.identity import Identity
from clop_det.config.content import content_of
from clop_det.config.files import flatten, nested
from clop_det.engine.run_folder import CONFIG_NAME, RESULTS_NAME
from clop_det.errors import UserError
from clop_det.files import read_json, write_json, write_text
from clop_det.keys import DETECTION, PRETRAINING
from clop_det.provenance import git_state

_LONGEST = 180  # characters of a folder's name before the digest
_STAGES = {"pretrain": PRETRAINING, "detect": DETECTION}


@dataclass(frozen=True)
class Job:
    """What to run, and what its figures are about.

    Attributes:
        kind: one of `names.KINDS`.
        name: name of the run folder: readable part and the first digits of the digest.
        identity: what it computes.
        needs: names of the jobs whose product it reads.
        product: file in the run folder that other jobs read; empty: none.
        config: the complete config, for pretrain and detect.
        iterations: training steps, 0 for the quick kinds.
        facts: what the figures are about (init, label_fraction, seed, detection, grid, ...), for the report.
        arguments: settings of the quick kinds (source file, number of examples, ...).
    """

    kind: str
    name: str
    identity: Identity
    needs: tuple[str, ...] = ()
    product: str = ""
    config: CfgNode | None = None
    iterations: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Hash of everything that determines the result, but for the code."""
        return self.identity.digest

    @property
    def title(self) -> str:
        """What a person reads in the progress display."""
        return self.name.rsplit("-", 1)[0].replace("-", " ")

    def content(self, cfg: Mapping[str, Any]) -> dict[str, Any]:
        """The values of a config, of this job or one like it, that count for its identity."""
        return content_of(cfg, _STAGES[self.kind])


def job_name(kind: str, parts: list[str], identity: Identity) -> str:
    """Folder name: kind, readable parts (cut where a file system would refuse them), eight digits of the digest."""
    readable = "-".join([kind, *(part for part in parts if part)])
    return f"{readable[:_LONGEST]}-{identity.digest[:8]}"


def prepare_folder(job: Job, folder: Path) -> dict[str, Any]:
    """Make `folder` this job's, or check that it already is; writes job.json and job.yaml.

    Returns:
        The record in job.json, with what earlier attempts left in it.

    Raises:
        UserError: the folder belongs to another job, or to no job at all.
    """
    record = check_folder(job, folder)
    record.update(
        kind=job.kind,
        name=job.name,
        digest=job.digest,
        reads=dict(job.identity.reads),
        needs=list(job.needs),
        iterations=job.iterations,
        arguments=dict(job.arguments),
        **job.facts,
    )
    record.setdefault("attempts", [])
    _note_code(record, job)
    if job.config is not None:
        record["device"] = job.config.MODEL.DEVICE
        write_text(folder / JOB_CONFIG, job.config.dump())
        _follow(folder / CONFIG_NAME, job)
    write_json(folder / JOB_NAME, record)
    return record


def _note_code(record: dict[str, Any], job: Job) -> None:
    """Note the code that the job starts under; if it began under another one, both."""
    commit, dirty = git_state()
    files = job.identity.code_files()
    now = {"commit": commit, "dirty": dirty, "files": files}
    before = record.get("code") if record["attempts"] else None
    if before is None:
        record["code"] = now
    elif differing_files(before, files):
        record["code"] = now
        record["earlier_code"] = [*record.get("earlier_code", []), before]


def differing_files(code: Mapping[str, Any] | None, files: Mapping[str, str]) -> list[str]:
    """Names of the files in which a recorded code differs from `files`; all of them where none is recorded."""
    before = (code or {}).get("files") or {}
    return sorted(name for name in {*before, *files} if before.get(name) != files.get(name))


def _follow(config: Path, job: Job) -> None:
    """In the config of a run that has begun, take from the job's config what does not count: places, others' options.

    The digest says that the job is the same; a trainer that resumes compares configs as text.
    """
    assert job.config is not None
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        there = dict(flatten(content))
    except (OSError, ValueError, yaml.YAMLError, AttributeError):
        return  # not begun, or damaged: the trainer says so
    counted = job.content(job.config)
    new = {key: value for key, value in flatten(yaml.safe_load(job.config.dump())) if key not in counted}
    kept = {key: value for key, value in there.items() if key in counted}
    if {**kept, **new} != there:
        write_text(config, yaml.safe_dump(nested({**kept, **new})))


def check_folder(job: Job, folder: Path) -> dict[str, Any]:
    """The record of a folder that is free or this job's; UserError if it is somebody else's."""
    if (folder / JOB_NAME).is_file():
        record: dict[str, Any] = read_json(folder / JOB_NAME)
        if record.get("digest") != job.digest:
            raise UserError(f"{folder} holds another job ({record.get('digest')}). Choose another OUTPUT_DIR.")
        return record
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty and no job of a comparison. Move it away or choose another OUTPUT_DIR.")
    return {}


def is_done(job: Job, folder: Path) -> bool:
    """Whether the job has ended with its figures; results.json is the last thing a run writes."""
    if not (folder / RESULTS_NAME).is_file() or not (folder / JOB_NAME).is_file():
        return False
    return bool(read_json(folder / JOB_NAME).get("digest") == job.digest)


def jobs_to_run(jobs: Mapping[str, Job], root: Path) -> list[str]:
    """Names of the jobs that still have to run, in order.

    A finished job runs again only if its product was deleted and an unfinished job needs it.
    """
    unfinished = {name for name, job in jobs.items() if not is_done(job, root / name)}
    for name in reversed(list(jobs)):  # needs come before their users
        if name in unfinished:
            for need in jobs[name].needs:
                product = jobs[need].product
                if product and not (root / need / product).exists():
                    unfinished.add(need)
    return [name for name in jobs if name in unfinished]
